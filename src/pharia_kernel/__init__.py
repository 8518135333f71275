"""PhariaKernel: runs sandboxed WebAssembly skills behind HTTP."""
