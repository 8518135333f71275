"""What one run costs without a kernel: instantiate, run and drop in one process.

Both ways are functions for a process of their own (``workers.worker``): one with the public API of
the ``wasmtime`` package alone, one with the engine's own parts (pooling, epochs, fibers).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import wasmtime
from wasmtime import component as wc

from pharia_kernel.engine import binding
from pharia_kernel.engine.guest import LoadedComponent
from pharia_kernel.engine.guest import Run as GuestRun
from pharia_kernel.engine.hostapi import HostApi
from pharia_kernel.engine.protocol import Start, ToKernel
from pharia_kernel.engine.surface import STREAM_OUTPUT

_PHARIA = "pharia:skill/"
_MEMORY_LIMIT = 512 << 20
_POOLED_INSTANCES = 1000


def public_api(file: str, body: bytes, count: int) -> list[float]:
    """Seconds of each of ``count`` runs of what ``wasmtime`` serialized to ``file``."""
    return _timed(_public_runner(file), body, count)


def engine_parts(file: str, body: bytes, count: int) -> list[float]:
    """The same with what engine processes use; ``file`` is from the kernel's compiler."""
    return _inside_tokio(lambda: _timed(_engine(file).run, body, count))


def engine_first_call(file: str, body: bytes, count: int) -> list[float]:
    """Seconds from the start of each of ``count`` runs to the guest's first system call."""

    def measure() -> list[float]:
        engine = _engine(file)
        return [engine.seconds_to_first_call(body) for _ in range(count + 1)][1:]

    return _inside_tokio(measure)


def engine_memory(file: str, body: bytes, count: int) -> float:
    """Bytes that a finished run has for itself before it is dropped: the mean of ``count`` runs
    that are held at once."""

    def measure() -> list[float]:
        return [_engine(file).memory(body, count)]

    return _inside_tokio(measure)[0]


def _inside_tokio(measure: Callable[[], list[float]]) -> list[float]:
    durations: list[float] = []
    binding.run_inside_tokio(lambda: durations.extend(measure()))
    return durations


def _timed(run: Callable[[bytes], bytes], body: bytes, count: int) -> list[float]:
    run(body)  # not measured: it brings the component back into the caches
    durations = []
    for _ in range(count):
        began = time.perf_counter()
        run(body)
        durations.append(time.perf_counter() - began)
    return durations


@cache
def _engine(file: str) -> _Engine:
    return _Engine(file)


# --- with the public API --------------------------------------------------------------------------


@cache
def _public_runner(file: str) -> Callable[[bytes], bytes]:
    engine = wasmtime.Engine()
    component = wc.Component.deserialize_file(engine, file)
    linker = wc.Linker(engine)
    linker.add_wasip2()
    _define_unused_imports(linker, engine, component)
    handler = next(n for n in component.type.exports(engine) if n.startswith(_PHARIA))
    entry = component.get_export_index("run", component.get_export_index(handler))
    assert entry is not None

    def run(body: bytes) -> bytes:
        store = wasmtime.Store(engine)
        store.set_wasi(wasmtime.WasiConfig())
        function = linker.instantiate(store, component).get_func(store, entry)
        assert function is not None
        output = function(store, body)
        store.close()
        return bytes(_succeeded(output))

    return run


def _define_unused_imports(linker: wc.Linker, engine: wasmtime.Engine, component: Any) -> None:
    """The skill imports the whole CSI, of which it calls nothing."""
    number = 0
    with linker.root() as root:
        for name, interface in component.type.imports(engine).items():
            if not name.startswith(_PHARIA):
                continue
            with root.add_instance(name) as instance:
                for item, extern in interface.ty.exports(engine).items():
                    type_ = extern.ty
                    if isinstance(type_, wc.FuncType):
                        instance.add_func(item, _never_called)
                    elif isinstance(type_, wc.ResourceType):
                        number += 1
                        instance.add_resource(item, wc.ResourceType.host(number), _never_dropped)


def _never_called(*_: Any) -> None:
    raise AssertionError("the measured skill calls nothing")


def _never_dropped(*_: Any) -> None:
    raise AssertionError("the measured skill holds no resource")


def _succeeded(output: Any) -> bytes:
    """The payload of a ``result``, whose error is a variant of the package."""
    if not isinstance(output, bytes | bytearray):
        raise RuntimeError(f"the measured skill failed: {output}")
    return bytes(output)


# --- with the engine's parts ----------------------------------------------------------------------


def _private_memory() -> int:
    """Bytes that this process shares with nobody, and no file holds."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("smaps_rollup has no line `Anonymous`")


class _OneRun:
    """What host functions see of the process."""

    def __init__(self) -> None:
        self.run: GuestRun | None = None
        self.called: float | None = None
        """When the guest made its first system call, which nobody answers."""

    def get(self, run: int) -> GuestRun | None:
        return self.run

    def send(self, frame: ToKernel) -> None:
        self.called = self.called or time.perf_counter()


class _Engine:
    """What an engine process has, for one component and one run at a time."""

    def __init__(self, file: str) -> None:
        self._engine = binding.new_engine(binding.EngineOptions(True, _POOLED_INSTANCES))
        self._component = LoadedComponent(self._engine, file)
        self._runs = _OneRun()
        self._host = HostApi(self._engine, self._runs)
        self._output_type = self._host.resource_number(self._component.line, STREAM_OUTPUT)
        self._quiet = binding.OutputCallback(lambda _run, _data: None)

    def run(self, body: bytes) -> bytes:
        guest = self._start(body)
        done = guest.step()
        while done is None:
            if self._runs.called:
                raise RuntimeError("the measured skill makes system calls")
            done = guest.step()
        guest.close()
        if done.outcome != "returned":
            raise RuntimeError(f"the measured skill failed: {done.value.decode()}")
        return done.value

    def seconds_to_first_call(self, body: bytes) -> float:
        began = time.perf_counter()
        guest = self._start(body)
        while not self._runs.called:
            if guest.step() is not None:
                raise RuntimeError("the measured skill ended without a system call")
        guest.close()
        return self._runs.called - began

    def memory(self, body: bytes, count: int) -> float:
        self.run(body)
        before = _private_memory()
        held = [self._finished(body) for _ in range(count)]
        used = _private_memory() - before
        for guest in held:
            guest.close()
        return used / count

    def _finished(self, body: bytes) -> GuestRun:
        guest = self._start(body)
        while guest.step() is None:
            pass
        return guest

    def _start(self, body: bytes) -> GuestRun:
        start = Start(1, "", "run", body, _MEMORY_LIMIT, 0)
        outputs = (self._quiet, self._quiet)
        guest = GuestRun(
            start, self._component, self._engine, self._host.linker, self._output_type, outputs
        )
        self._runs.run, self._runs.called = guest, None
        return guest
