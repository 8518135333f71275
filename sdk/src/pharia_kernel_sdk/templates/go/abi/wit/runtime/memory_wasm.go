package runtime

import "unsafe"

//go:linkname sbrk runtime.sbrk
func sbrk(size uintptr) unsafe.Pointer

const pageSize = 65536

// The memory that was reserved and not given away yet.
var free, end uintptr

// cabiRealloc gives memory to the kernel, for arguments and results, and to the WASI adapter.
//
// The adapter asks before Go's runtime is ready, and a component must not call anything while it is
// asked, but Go's collector calls the clock. So this memory is none of Go's, and is not released:
// the kernel gives each run an instance of its own and drops all of it when the run is over.
//
//go:wasmexport cabi_realloc
//go:nosplit
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	start := (free + align - 1) &^ (align - 1)
	if start+size > end {
		reserved := (size + pageSize - 1) &^ (pageSize - 1)
		start = uintptr(sbrk(reserved))
		if start == 0 {
			panic("out of memory")
		}
		end = start + reserved
	}
	free = start + size
	memory := unsafe.Pointer(start)
	copy(unsafe.Slice((*byte)(memory), size), unsafe.Slice((*byte)(old), oldSize))
	return memory
}
