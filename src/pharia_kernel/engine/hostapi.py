"""The host functions that an engine links: they turn a guest's call into a frame and suspend the
guest."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from msgspec import Raw
from wasmtime import Engine

from pharia_kernel.engine import binding, surface, values
from pharia_kernel.engine.guest import Run
from pharia_kernel.engine.protocol import Call, Emit, ToKernel

MAX_OPEN_STREAMS = 256
"""Streams that a run may have open at once: opening one starts a request and waits for nothing."""

_encode = msgspec.msgpack.Encoder().encode


class Runs(Protocol):
    """Where host functions find their caller, and send frames."""

    def get(self, run: int) -> Run | None: ...

    def send(self, frame: ToKernel) -> None: ...


class HostApi:
    """A linker with WASI and every function of every WIT line."""

    def __init__(self, engine: Engine, runs: Runs) -> None:
        self._runs = runs
        self._numbers: dict[tuple[str, str], int] = {}
        self._host = binding.HostLinker(engine)
        for line in surface.NEWEST:
            self._define(line)
        self.linker = self._host.linker

    def resource_number(self, line: str, resource: str) -> int:
        """Type number of a line's resource."""
        return self._numbers.get((line, resource), 0)

    def _define(self, line: str) -> None:
        resources = surface.resources(line)
        for name in [name for names in resources.values() for name in names]:
            self._numbers[line, name] = len(self._numbers) + 1
        for interface, functions in surface.functions(line).items():
            name = surface.interface_name(line, interface)
            self._host.define(
                name,
                {
                    function: self._function(f"{name}#{function}", kind, line)
                    for function, kind in functions.items()
                },
                {
                    resource: (
                        self._numbers[line, resource],
                        self._destructor(f"{name}#[drop]{resource}"),
                    )
                    for resource in resources.get(interface, [])
                },
            )

    def _function(
        self, function: str, kind: surface.FunctionKind, line: str
    ) -> binding.HostFunction:
        number = 0
        if kind == "open":
            number = self._numbers[line, function.rpartition("]")[2]]
        enter = {"call": self._call, "open": self._open, "next": self._next, "write": self._write}[
            kind
        ]

        def host(
            context: binding.Context, type_: int, arguments: int, count: int, result: int
        ) -> binding.Continuation | None:
            run = self._runs.get(context.run)
            if run is None:
                raise RuntimeError("host call of a run that has ended")
            lifters, lower = run.component.converters(function, kind, type_)
            buffer = ctypes.string_at(arguments, count * binding.VAL_SIZE)
            skip = count - len(lifters)
            lifted = [lift(buffer, (skip + i) * binding.VAL_SIZE) for i, lift in enumerate(lifters)]
            handle = 0
            if skip:
                handle = binding.borrowed_representation(
                    context.pointer, values.lift_handle(buffer, 0)
                )
            return enter(
                _HostCall(run, context.pointer, function, number, handle, result, lower), lifted
            )

        return host

    def _destructor(self, function: str) -> binding.Destructor:
        def destroy(run_id: int, handle: int) -> None:
            run = self._runs.get(run_id)
            if run is not None and run.streams.pop(handle, None) is not None:
                self._send(run, 0, function, [handle])

        return destroy

    def _send(self, run: Run, call: int, function: str, arguments: list[Any]) -> None:
        self._runs.send(Call(run.id, call, function, Raw(_encode(arguments))))

    # --- one method per kind of function

    def _call(self, call: _HostCall, arguments: list[Any]) -> binding.Continuation:
        number = call.run.next_call()
        self._send(call.run, number, call.function, arguments)

        def answered() -> bool:
            if number not in call.run.replies:
                call.run.parked = True
                return False
            call.lower(call.run.replies.pop(number))
            return True

        return answered

    def _open(self, call: _HostCall, arguments: list[Any]) -> None:
        if len(call.run.streams) >= MAX_OPEN_STREAMS:
            raise RuntimeError(f"more than {MAX_OPEN_STREAMS} streams are open")
        handle = call.run.next_call()
        call.run.streams[handle] = deque()
        self._send(call.run, 0, call.function, [handle, *arguments])
        values.lower_handle(
            binding.own_resource(call.context, handle, call.resource_number), call.result
        )

    def _next(self, call: _HostCall, _arguments: list[Any]) -> binding.Continuation | None:
        early = call.run.streams[call.handle]
        if early:
            call.lower(early.popleft())
            return None
        number = call.run.next_call()
        self._send(call.run, number, call.function, [call.handle])

        def answered() -> bool:
            if number not in call.run.replies:
                call.run.parked = True
                return False
            early.extend(call.run.replies.pop(number))
            call.lower(early.popleft() if early else None)
            return True

        return answered

    def _write(self, call: _HostCall, arguments: list[Any]) -> binding.Continuation | None:
        item = _encode(arguments[0])
        call.run.wrote(len(item))
        self._runs.send(Emit(call.run.id, Raw(item)))
        if call.run.may_write():
            return None

        def consumed() -> bool:
            call.run.parked = not call.run.may_write()
            return not call.run.parked

        return consumed


class _HostCall:
    """What one call of a host function needs until it is answered."""

    __slots__ = ("_lower", "context", "function", "handle", "resource_number", "result", "run")

    def __init__(
        self,
        run: Run,
        context: int,
        function: str,
        resource_number: int,
        handle: int,
        result: int,
        lower: Callable[[Any, int], None] | None,
    ) -> None:
        self.run = run
        self.context = context
        self.function = function
        self.resource_number = resource_number
        """Type of the resource that a constructor makes."""
        self.handle = handle
        """Representation of the resource whose method this is."""
        self.result = result
        self._lower = lower

    def lower(self, value: Any) -> None:
        """Write the function's result."""
        if self._lower is not None:
            values.lower_one(self._lower, value, self.result)
