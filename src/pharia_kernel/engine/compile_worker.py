"""A compiler process: WebAssembly on standard input, an artifact file out, then gone.

``python -m pharia_kernel.engine.compile_worker KERNEL_PID MEMORY_LIMIT ARTIFACT_PATH``. Exit status
0: the artifact is written. Status 3: the component is at fault, and standard output says how, as
JSON ``{"code", "detail"}``. Anything else is the process's own trouble.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
from pathlib import Path

from wasmtime import Engine, WasmtimeError
from wasmtime.component import Component

from pharia_kernel.engine import binding, retype, sandbox, signatures
from pharia_kernel.engine.guest import LoadedComponent, Run
from pharia_kernel.engine.hostapi import HostApi
from pharia_kernel.engine.protocol import Start, ToKernel
from pharia_kernel.engine.signatures import SignatureMismatch
from pharia_kernel.engine.surface import STREAM_OUTPUT
from pharia_kernel.engine.values import UnsupportedType
from pharia_kernel.errors import CompileFailed, SkillLoadError, UnsatisfiedImport

FAULT = 3
_MEMORY_LIMIT = 4 << 30


class _NoRuns:
    """Host functions are linked here to see whether they fit, and never answered."""

    def get(self, run: int) -> Run | None:
        return None

    def send(self, frame: ToKernel) -> None:
        raise RuntimeError("no kernel to call")


def compile_to(path: Path, wasm: bytes) -> None:
    """Compile, write, and check that every import is satisfied; raises ``SkillLoadError``."""
    engine = binding.new_engine(binding.EngineOptions(pooling=False))
    rewritten = retype.with_text(wasm)
    if rewritten is not wasm:
        with contextlib.suppress(CompileFailed):
            _compile(engine, path, rewritten, signatures.TEXT)
            return
    _compile(engine, path, wasm, signatures.BYTES)


def _compile(engine: Engine, path: Path, wasm: bytes, payload: str) -> None:
    try:
        component = Component(engine, wasm)
    except WasmtimeError as error:
        raise CompileFailed(f"The component is not valid: {_first_lines(error)}") from None
    path.write_bytes(component.serialize())
    check_links(engine, path, payload)


def check_links(engine: Engine, path: Path, payload: str) -> None:
    """Check that the entries have inputs and outputs of type ``payload``, and instantiate until the
    first guest instruction: linking comes before that."""
    try:
        component = LoadedComponent(engine, str(path), [payload])
    except (SignatureMismatch, UnsupportedType) as error:
        raise CompileFailed(f"The skill's exports have unexpected types: {error}.") from None
    host = HostApi(engine, _NoRuns())
    quiet = binding.OutputCallback(lambda _run, _data: None)
    start = Start(1, "", "run", b"", _MEMORY_LIMIT, 0)
    number = host.resource_number(component.line, STREAM_OUTPUT)
    run = Run(start, component, engine, host.linker, number, (quiet, quiet))
    # A start function that never ends would hold us up: the epoch makes it yield, and that is
    # enough.
    timer = threading.Timer(1.0, binding.epoch_incrementer(engine))
    timer.start()
    unsatisfied = run.link()
    timer.cancel()
    timer.join()  # the engine may be gone after this
    run.close()
    if unsatisfied:
        raise UnsatisfiedImport(
            f"The component can't be linked: {_first_lines(unsatisfied)} "
            "Build it with an SDK that this kernel supports."
        )


def _first_lines(error: WasmtimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:600].rstrip(".") + "."


def main(arguments: list[str]) -> int:
    kernel_pid, memory_limit, path = int(arguments[0]), int(arguments[1]), Path(arguments[2])
    sandbox.enter(kernel_pid)
    if sys.platform.startswith("linux"):
        # Private writable memory. The address space would be the wrong thing to limit: wasm
        # reserves a lot of it.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    os.nice(10)
    try:
        binding.run_inside_tokio(lambda: compile_to(path, sys.stdin.buffer.read()))
    except SkillLoadError as error:
        print(json.dumps({"code": error.code, "detail": error.detail}))
        return FAULT
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)
