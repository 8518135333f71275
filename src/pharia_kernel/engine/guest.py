"""Components as an engine holds them, and one run of one of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from wasmtime import Engine, WasmtimeError
from wasmtime import component as wit
from wasmtime.component import Component, ComponentInstanceType, Linker

from pharia_kernel.engine import binding, signatures, surface, values
from pharia_kernel.engine.api import ComponentKind
from pharia_kernel.engine.inspector import entry_interface, inspect_names
from pharia_kernel.engine.protocol import Done, Outcome, Start
from pharia_kernel.engine.signatures import SignatureMismatch

WINDOW_ITEMS = 64
WINDOW_BYTES = 1 << 20
"""A guest may be so far ahead of the client that reads its stream."""


MAX_TRAP_TEXT = 16 << 10
"""Bytes of a trap's message and backtrace."""


_BACKTRACE = "wasm backtrace"
"""Part of wasmtime's text for errors that happened while the guest was executing."""


class LoadedComponent:
    """An artifact mapped into the process, and what is known of its functions."""

    def __init__(
        self, engine: Engine, path: str, payloads: Sequence[str] = signatures.PAYLOADS
    ) -> None:
        """``payloads``: see ``signatures.checked``. Raises ``SignatureMismatch``."""
        self.component = Component.deserialize_file(engine, path)
        type_ = self.component.type
        info = inspect_names(list(type_.imports(engine)), list(type_.exports(engine)))
        self.line = info.line
        self.streams = info.kind is ComponentKind.MESSAGE_STREAM
        exports = type_.exports(engine)
        interface = entry_interface(list(exports)) or ""
        index = self.component.get_export_index(interface)
        instance = exports[interface].ty
        if not isinstance(instance, ComponentInstanceType):
            raise SignatureMismatch(f"`{interface}` is not an interface")
        types = {name: item.ty for name, item in instance.exports(engine).items()}
        functions = signatures.checked(info, types, payloads)
        self.entries = {name: self.component.get_export_index(name, index) for name in functions}
        self.results = {
            # checked: all have one
            name: values.lifter(cast(wit.ValType, type_.result), decode=False)
            for name, type_ in functions.items()
        }
        (_, input_), *_ = functions["run"].params
        self.lower_input = (
            values.lower_utf8 if isinstance(input_, wit.String) else values.lower_bytes
        )
        self._converters: dict[str, tuple[list[values.Lifter], values.Lowerer | None]] = {}

    def converters(
        self, function: str, kind: surface.FunctionKind, type_pointer: int
    ) -> tuple[list[values.Lifter], values.Lowerer | None]:
        """How to lift the arguments (without the handle of a method) and lower the result of a host
        function, as this component declares it."""
        found = self._converters.get(function)
        if found is None:
            type_ = binding.function_type(type_pointer)
            parameters = type_.params[1:] if kind in ("next", "write") else type_.params
            result = None if kind in ("open", "write") else type_.result
            found = (
                [values.lifter(parameter) for _, parameter in parameters],
                None if result is None else values.lowerer(result),
            )
            self._converters[function] = found
        return found


class Run:
    """One invocation: a store, an instance, and where it stands. Driven by ``step`` until that
    returns true."""

    def __init__(
        self,
        start: Start,
        component: LoadedComponent,
        engine: Engine,
        linker: Linker,
        stream_output_type: int,
        outputs: tuple[binding.OutputCallback, binding.OutputCallback],
    ) -> None:
        self.id = start.run
        self.component = component
        self.output_room = start.output_limit
        self.guest_seconds = 0.0
        self.parked = False
        """Suspended in a host call whose answer is not here yet."""
        self.replies: dict[int, Any] = {}
        self.streams: dict[int, deque[Any]] = {}
        """Open streams by handle, with the events that came early."""
        self._calls = 0
        self._window: deque[int] = deque()
        self._window_bytes = 0
        self._start = start
        self._stream_output_type = stream_output_type
        self._store = binding.Store(engine, start.run, start.memory_limit, *outputs)
        self._instance, self._future = binding.instantiate(linker, self._store, component.component)
        self._open = True  # the future has to be closed
        self._arguments: binding.Values | None = None
        self._results: binding.Values | None = None

    # --- host calls

    def next_call(self) -> int:
        self._calls += 1
        return self._calls

    def reply(self, call: int, value: msgspec.Raw) -> None:
        self.replies[call] = msgspec.msgpack.decode(value)

    def wrote(self, size: int) -> None:
        """A stream item of so many bytes went to the kernel."""
        self._window.append(size)
        self._window_bytes += size

    def consumed(self, items: int) -> None:
        for _ in range(min(items, len(self._window))):
            self._window_bytes -= self._window.popleft()

    def may_write(self) -> bool:
        return len(self._window) < WINDOW_ITEMS and self._window_bytes < WINDOW_BYTES

    # --- execution

    def step(self) -> Done | None:
        """Execute the guest until it is suspended or its time slice ends (then none), or it is
        done."""
        began = time.perf_counter()
        try:
            outcome = self._advance()
        finally:
            self.guest_seconds += time.perf_counter() - began
        return outcome and Done(self.id, *outcome, self.guest_seconds)

    def link(self) -> WasmtimeError | None:
        """Start to instantiate; the error if an import is not satisfied. What the guest itself does
        is not judged."""
        if not self._future.poll():
            return None
        error = self._future.error()
        self._future.close()
        self._open = False
        return None if error is None or _BACKTRACE in str(error) else error

    def _advance(self) -> tuple[Outcome, bytes] | None:
        while self._future.poll():
            error = self._future.error()
            self._future.close()
            self._open = False
            if error:
                return "trapped", trap_text(error)
            if self._results is not None:
                return self._returned(self._results)
            try:
                self._call_entry()
            except UnicodeDecodeError as flaw:
                text = f"it is not UTF-8: {flaw.reason} at byte {flaw.start}"
                return "refused-invalid-input", text.encode()
        return None

    def _call_entry(self) -> None:
        function = self._instance.function(self.component.entries[self._start.entry])
        self._arguments = self._lower_arguments()
        self._results = binding.Values(1)
        self._future = binding.call(function, self._store, self._arguments, self._results)
        self._open = True

    def _lower_arguments(self) -> binding.Values:
        if self._start.entry == "metadata":
            return binding.Values(0)
        arguments = binding.Values(2 if self.component.streams else 1)
        self.component.lower_input(self._start.input, arguments.address)
        if self.component.streams:
            handle = binding.own_resource(self._store.context, 1, self._stream_output_type)
            values.lower_handle(handle, arguments.address + binding.VAL_SIZE)
        return arguments

    def _returned(self, results: binding.Values) -> tuple[Outcome, bytes]:
        value = values.lift_one(self.component.results[self._start.entry], results.address)
        if self._start.entry == "metadata":
            if (description := value["description"]) is not None:
                value["description"] = description.decode()
            return "returned", msgspec.msgpack.encode(value)
        status, payload = value
        if status == "ok":
            return "returned", payload or b""
        kind, message = payload
        return "refused-internal" if kind == "internal" else "refused-invalid-input", message

    def close(self) -> None:
        """Drop the guest, wherever it stands."""
        if self._open:
            self._future.close()
        for array in (self._results, self._arguments):
            if array is not None:
                array.delete()
        self._store.close()


def trap_text(error: WasmtimeError) -> bytes:
    return str(error).encode()[:MAX_TRAP_TEXT]
