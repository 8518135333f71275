"""The part of wasmtime's C API that its Python package does not wrap: async calls, epochs, pooling,
raw values.

Everything private of the ``wasmtime`` package is used here and nowhere else, so that an upgrade is
a change of the pinned version and of this file. Pointers are plain integers; the C functions are
declared a second time with such signatures, because ctypes' typed pointers cost more than the
calls. Everything runs on one thread.

Ownership follows the C API: what a function "takes" is gone afterwards; what it "returns" must be
deleted here. Functions raise ``wasmtime.WasmtimeError`` where the C API returns an error.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import struct
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_size_t, c_ssize_t, c_uint32, c_void_p
from typing import Any

import wasmtime
from msgspec import Struct
from wasmtime import Config, Engine, WasmtimeError
from wasmtime import _bindings as c
from wasmtime import _ffi as ffi
from wasmtime.component import Component, FuncType, Linker, ResourceType

VERSION = importlib.metadata.version("wasmtime")

_gil_free: ctypes.CDLL = ffi.dll
_gil_held = ctypes.PyDLL(_gil_free._name)
"""For calls that are shorter than giving up the GIL and never call back into Python."""


def _declare(dll: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = dll[name]  # a fresh function object: the package's own declaration is not touched
    function.restype = result
    function.argtypes = arguments
    return function


_store_new = _declare(_gil_held, "wasmtime_store_new", c_void_p, c_void_p, c_size_t, c_void_p)
_store_context = _declare(_gil_held, "wasmtime_store_context", c_void_p, c_void_p)
_store_delete = _declare(_gil_free, "wasmtime_store_delete", None, c_void_p)
_store_limiter = _declare(
    _gil_held, "wasmtime_store_limiter", None, c_void_p, *[ctypes.c_int64] * 5
)
_get_data = _declare(_gil_held, "wasmtime_context_get_data", c_size_t, c_void_p)
_set_wasi = _declare(_gil_held, "wasmtime_context_set_wasi", c_void_p, c_void_p, c_void_p)
_set_deadline = _declare(
    _gil_held, "wasmtime_context_set_epoch_deadline", None, c_void_p, ctypes.c_uint64
)
_yield_at_deadline = _declare(
    _gil_held,
    "wasmtime_context_epoch_deadline_async_yield_and_update",
    None,  # the package declares an error pointer, but the C function returns nothing
    c_void_p,
    ctypes.c_uint64,
)
_wasi_new = _declare(_gil_held, "wasi_config_new", c_void_p)
_wasi_stdout = _declare(
    _gil_held, "wasi_config_set_stdout_custom", None, c_void_p, c_void_p, c_size_t, c_void_p
)
_wasi_stderr = _declare(
    _gil_held, "wasi_config_set_stderr_custom", None, c_void_p, c_void_p, c_size_t, c_void_p
)
_future_poll = _declare(_gil_free, "wasmtime_call_future_poll", c_bool, c_void_p)
_future_delete = _declare(_gil_free, "wasmtime_call_future_delete", None, c_void_p)
_instantiate = _declare(
    _gil_held,
    "wasmtime_component_linker_instantiate_async",
    c_void_p,
    *[c_void_p] * 5,
)
_get_func = _declare(_gil_held, "wasmtime_component_instance_get_func", c_bool, *[c_void_p] * 4)
_call = _declare(
    _gil_held,
    "wasmtime_component_func_call_async",
    c_void_p,
    c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p,
)  # fmt: skip
_val_delete = _declare(_gil_held, "wasmtime_component_val_delete", None, c_void_p)
_val_new = _declare(_gil_held, "wasmtime_component_val_new", c_void_p, c_void_p)
_bytes_new = _declare(_gil_held, "wasm_byte_vec_new", None, c_void_p, c_size_t, c_char_p)
_list_new = _declare(_gil_held, "wasmtime_component_vallist_new_uninit", None, c_void_p, c_size_t)
_record_new = _declare(
    _gil_held, "wasmtime_component_valrecord_new_uninit", None, c_void_p, c_size_t
)
_record_copy = _declare(_gil_held, "wasmtime_component_valrecord_copy", None, c_void_p, c_void_p)
_add_func = _declare(
    _gil_held,
    "wasmtime_component_linker_instance_add_func_async",
    c_void_p,
    c_void_p, c_char_p, c_size_t, c_void_p, c_size_t, c_void_p,
)  # fmt: skip
_add_resource = _declare(
    _gil_held,
    "wasmtime_component_linker_instance_add_resource",
    c_void_p,
    c_void_p, c_char_p, c_size_t, c_void_p, c_void_p, c_size_t, c_void_p,
)  # fmt: skip
_host_new = _declare(
    _gil_held, "wasmtime_component_resource_host_new", c_void_p, c_bool, c_uint32, c_uint32
)
_host_to_any = _declare(
    _gil_held, "wasmtime_component_resource_host_to_any", c_void_p, *[c_void_p] * 3
)
_any_to_host = _declare(
    _gil_held, "wasmtime_component_resource_any_to_host", c_void_p, *[c_void_p] * 3
)
_host_rep = _declare(_gil_held, "wasmtime_component_resource_host_rep", c_uint32, c_void_p)
_host_delete = _declare(_gil_held, "wasmtime_component_resource_host_delete", None, c_void_p)
_error_new = _declare(_gil_held, "wasmtime_error_new", c_void_p, c_char_p)
_increment_epoch = _declare(_gil_held, "wasmtime_engine_increment_epoch", None, c_void_p)


def _raise(error: int | None) -> None:
    if error:
        raise _error(error)


def _error(pointer: int) -> WasmtimeError:
    """Takes the error."""
    return WasmtimeError._from_ptr(ctypes.cast(pointer, POINTER(ffi.wasmtime_error_t)))


def _pointer(managed: Any) -> int:
    """Address of what a ``wasmtime`` object manages."""
    return ctypes.cast(managed.ptr(), c_void_p).value or 0


def read_pointer(address: int) -> int:
    return c_size_t.from_address(address).value


# --- engine ---------------------------------------------------------------------------------------


class EngineOptions(Struct, frozen=True):
    pooling: bool = True
    """Allocate instances from preallocated slots instead of mapping memory for each."""
    max_instances: int = 1000
    """Component instances alive at once, with pooling."""


def config_fingerprint() -> str:
    """Names everything that decides whether an artifact can be loaded by engines made by
    ``new_engine``."""
    return f"wasmtime-{VERSION}+component-model+epochs+speed"


def _pooling_settings(instances: int) -> dict[str, int]:
    """Python components have about 20 core instances, one memory and two tables each."""
    return {
        "total_component_instances": instances,
        "total_core_instances": instances * 40,
        "total_memories": instances + 100,
        "total_tables": instances * 4 + 100,
        "total_stacks": instances,
        "max_core_instances_per_component": 1000,
        "max_memories_per_component": 100,
        "max_tables_per_component": 100,
        "table_elements": 200_000,
        "max_component_instance_size": 1 << 24,
        "max_core_instance_size": 1 << 24,
    }


def new_engine(options: EngineOptions) -> Engine:
    """An engine with epoch interruption. With pooling it fails if the address space is too
    small."""
    config = Config()
    config.epoch_interruption = True
    config.cranelift_opt_level = "speed"
    config.wasm_component_model = True
    if options.pooling:
        pool = ffi.wasmtime_pooling_allocation_config_new()
        for name, value in _pooling_settings(options.max_instances).items():
            getattr(c, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
        ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
        ffi.wasmtime_pooling_allocation_config_delete(pool)
    return Engine(config)


def epoch_incrementer(engine: Engine) -> Callable[[], None]:
    """A function that starts the engine's next epoch; callable from any thread."""
    pointer = _pointer(engine)
    return lambda: _increment_epoch(pointer)


# --- Tokio ----------------------------------------------------------------------------------------


_CALL_FD_WRITE = """
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\01\\00\\00\\00.")
  (func (export "run")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
"""


def run_inside_tokio(body: Callable[[], None]) -> None:
    """Call ``body`` on this thread with wasmtime's Tokio runtime entered.

    WASI's clocks await Tokio timers. Polled without a runtime, as ``wasmtime_call_future_poll``
    does, they panic, and a panic aborts the process: one guest that sleeps would end every run of
    the engine. The C API has no way to enter the runtime, but its synchronous WASI preview 1
    functions run inside it. So a three-line module writes one byte to its standard output, and
    ``body`` is what receives that byte.
    """
    failure: list[BaseException] = []

    def receive(data: bytes) -> int:
        try:
            body()
        except BaseException as error:
            failure.append(error)
        return len(data)

    engine = Engine()
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.stdout_custom = receive
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    run = linker.instantiate(store, wasmtime.Module(engine, _CALL_FD_WRITE)).exports(store)["run"]
    assert isinstance(run, wasmtime.Func)
    run(store)
    if failure:
        raise failure[0]


# --- stores ---------------------------------------------------------------------------------------

_OUTPUT_CALLBACK = CFUNCTYPE(c_ssize_t, c_size_t, c_size_t, c_size_t)

Output = Callable[[int, bytes], None]
"""(run, what the guest wrote)"""


class OutputCallback:
    """Receives what guests write to one of their standard streams. Outlives every store that uses
    it."""

    def __init__(self, sink: Output) -> None:
        def write(run: int, data: int, size: int) -> int:
            sink(run, ctypes.string_at(data, size))
            return size

        self._callback = _OUTPUT_CALLBACK(write)
        self.pointer = ctypes.cast(self._callback, c_void_p).value


class Store:
    """A store whose guest yields at every epoch tick, with WASI that has nothing but clocks and
    randomness."""

    __slots__ = ("_store", "context")

    def __init__(
        self,
        engine: Engine,
        run: int,
        memory_limit: int,
        stdout: OutputCallback,
        stderr: OutputCallback,
    ) -> None:
        """``run`` is the number that ``current_run`` and the output callbacks get, 1 or more.
        ``memory_limit`` in bytes holds for each linear memory; growing beyond it fails inside the
        guest."""
        self._store = _store_new(_pointer(engine), run, None)
        self.context: int = _store_context(self._store)
        wasi = _wasi_new()
        _wasi_stdout(wasi, stdout.pointer, run, None)
        _wasi_stderr(wasi, stderr.pointer, run, None)
        _raise(_set_wasi(self.context, wasi))
        _store_limiter(self._store, memory_limit, -1, -1, -1, -1)
        _set_deadline(self.context, 1)
        _yield_at_deadline(self.context, 1)

    def close(self) -> None:
        _store_delete(self._store)


# --- futures --------------------------------------------------------------------------------------


class Future:
    """An asynchronous call. Its result and error are complete once ``poll`` has returned true."""

    __slots__ = ("_error", "_future", "_keep")

    def __init__(self, future: int, error: c_void_p, keep: Any) -> None:
        self._future = future
        self._error = error
        self._keep = keep  # what the C side reads and writes while the call is in flight

    def poll(self) -> bool:
        return bool(_future_poll(self._future))

    def close(self) -> None:
        """Delete the future; a guest that is suspended in it is unwound without running any
        further."""
        _future_delete(self._future)

    def error(self) -> WasmtimeError | None:
        """To be called once, after the call has completed."""
        return _error(self._error.value) if self._error.value else None


class Instance:
    """A component instance, complete once the future of ``instantiate`` is."""

    __slots__ = ("_raw", "_store")

    def __init__(self, store: Store) -> None:
        self._raw = ffi.wasmtime_component_instance_t()
        self._store = store

    def address(self) -> int:
        return ctypes.addressof(self._raw)

    def function(self, export: Any) -> Any:
        """The exported function at an ``ExportIndex`` of the component; none if there is none."""
        function = ffi.wasmtime_component_func_t()
        found = _get_func(
            self.address(), self._store.context, _pointer(export), ctypes.addressof(function)
        )
        return function if found else None


def instantiate(linker: Linker, store: Store, component: Component) -> tuple[Instance, Future]:
    instance = Instance(store)
    error = c_void_p()
    future = _instantiate(
        _pointer(linker),
        store.context,
        _pointer(component),
        instance.address(),
        ctypes.addressof(error),
    )
    return instance, Future(future, error, instance)


class Values:
    """An array of component values, each false at first. Owns what the values own."""

    __slots__ = ("_count", "_raw", "address")

    def __init__(self, count: int) -> None:
        self._count = count
        self._raw = ctypes.create_string_buffer(VAL_SIZE * max(count, 1))
        self.address = ctypes.addressof(self._raw)

    def __len__(self) -> int:
        return self._count

    def delete(self) -> None:
        for i in range(self._count):
            _val_delete(self.address + i * VAL_SIZE)


def call(function: Any, store: Store, arguments: Values, results: Values) -> Future:
    error = c_void_p()
    future = _call(
        ctypes.addressof(function),
        store.context,
        arguments.address,
        len(arguments),
        results.address,
        len(results),
        ctypes.addressof(error),
    )
    return Future(future, error, (function, arguments, results))


# --- linking --------------------------------------------------------------------------------------


class Context:
    """What a host function knows of its caller."""

    __slots__ = ("pointer", "run")

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        self.run: int = _get_data(pointer)
        """The number given to the ``Store``."""


Continuation = Callable[[], bool]

HostFunction = Callable[[Context, int, int, int, int], Continuation | None]
"""(context, function type, address of the arguments, their number, address of the result) -> none
if the result is written, else a function that returns true once it has written it. Raising ends the
call with a trap."""

Destructor = Callable[[int, int], None]
"""(run, representation)"""

_FUNCTION_CALLBACK = CFUNCTYPE(
    None,
    c_size_t, c_size_t, c_size_t, c_size_t, c_size_t, c_size_t, c_size_t, c_size_t, c_size_t,
)  # fmt: skip
_DESTRUCTOR_CALLBACK = CFUNCTYPE(c_size_t, c_size_t, c_size_t, c_uint32)
_CONTINUATION_CALLBACK = CFUNCTYPE(c_bool, c_size_t)
_CONTINUATION_FINALIZER = CFUNCTYPE(None, c_size_t)

_CONTINUATION = struct.Struct("@NNN")
_POINTER = struct.Struct("@N")


def _set_error(target: int, exception: BaseException) -> None:
    text = f"{type(exception).__name__}: {exception}".encode().replace(b"\0", b"")
    ctypes.memmove(target, _POINTER.pack(_error_new(text)), _POINTER.size)


class HostLinker:
    """Defines what guests may import: WASI 0.2, and the functions and resources added here."""

    def __init__(self, engine: Engine) -> None:
        self.linker = Linker(engine)
        error = ffi.wasmtime_component_linker_add_wasip2_async(self.linker.ptr())
        if error:
            raise WasmtimeError._from_ptr(error)
        self._keep: list[Any] = []
        self._pending: dict[int, tuple[Continuation, int]] = {}
        self._last = 0
        self._poll = self._callback(_CONTINUATION_CALLBACK(self._poll_continuation))
        self._finish = self._callback(_CONTINUATION_FINALIZER(self._finish_continuation))
        done = self._callback(_CONTINUATION_CALLBACK(lambda _env: True))
        self._done = _CONTINUATION.pack(done, 0, 0)

    def _callback(self, callback: Any) -> int:
        self._keep.append(callback)
        return ctypes.cast(callback, c_void_p).value or 0

    def define(
        self,
        interface: str,
        functions: dict[str, HostFunction],
        resources: dict[str, tuple[int, Destructor]],
    ) -> None:
        """Define an interface: its functions, and its resources as name -> (type number,
        destructor).

        Type numbers are unique among all resources of the linker.
        """
        with self.linker.root() as root, root.add_instance(interface) as instance:
            pointer = _pointer(instance)
            for name, (number, destructor) in resources.items():
                self._add_resource(pointer, name.encode(), number, destructor)
            for name, function in functions.items():
                callback = self._callback(_FUNCTION_CALLBACK(self._entry(function)))
                _raise(_add_func(pointer, name.encode(), len(name), callback, 0, None))

    def _add_resource(
        self, instance: int, name: bytes, number: int, destructor: Destructor
    ) -> None:
        def destroy(_env: int, context: int, representation: int) -> int:
            destructor(_get_data(context), representation)
            return 0

        callback = self._callback(_DESTRUCTOR_CALLBACK(destroy))
        resource = ResourceType.host(number)
        _raise(_add_resource(instance, name, len(name), _pointer(resource), callback, 0, None))

    def _entry(self, function: HostFunction) -> Any:
        def enter(
            _env: int, context: int, type_: int, arguments: int, argument_count: int,
            results: int, _result_count: int, error: int, continuation: int,
        ) -> None:  # fmt: skip
            # No exception may leave a callback: ctypes would print it and go on as if nothing was.
            wait = None
            try:
                wait = function(Context(context), type_, arguments, argument_count, results)
            except BaseException as exception:
                _set_error(error, exception)
            packed = self._done if wait is None else self._suspend(wait, error)
            ctypes.memmove(continuation, packed, _CONTINUATION.size)

        return enter

    def _suspend(self, wait: Continuation, error: int) -> bytes:
        self._last += 1
        # ``error`` outlives the callback: wasmtime reads it when the continuation has ended.
        self._pending[self._last] = (wait, error)
        return _CONTINUATION.pack(self._poll, self._last, self._finish)

    def _poll_continuation(self, number: int) -> bool:
        wait, error = self._pending[number]
        try:
            return wait()
        except BaseException as exception:
            _set_error(error, exception)
            return True

    def _finish_continuation(self, number: int) -> None:
        self._pending.pop(number, None)


# --- resources ------------------------------------------------------------------------------------


def own_resource(context: int, representation: int, type_number: int) -> int:
    """Pointer to put into a resource value: a new handle that the guest of the store will own."""
    host = _host_new(True, representation, type_number)
    try:
        any_ = c_size_t()
        _raise(_host_to_any(context, host, ctypes.addressof(any_)))
        return any_.value
    finally:
        _host_delete(host)


def borrowed_representation(context: int, pointer: int) -> int:
    """The representation behind a borrowed handle. Consumes the borrow, which must happen exactly
    once."""
    host = c_size_t()
    _raise(_any_to_host(context, pointer, ctypes.addressof(host)))
    try:
        return int(_host_rep(host.value))
    finally:
        _host_delete(host.value)


# --- memory of values -----------------------------------------------------------------------------
# A value is a kind (one byte) and, 8 bytes further, its payload. ``target`` is the address of a
# payload.

VAL_SIZE = ctypes.sizeof(ffi.wasmtime_component_val_t)
PAYLOAD = ffi.wasmtime_component_val_t.of.offset
RECORD_ENTRY_SIZE = ctypes.sizeof(ffi.wasmtime_component_valrecord_entry_t)
RECORD_ENTRY_VAL = ffi.wasmtime_component_valrecord_entry_t.val.offset


class Kind:
    """Tags of ``wasmtime_component_valkind_t``."""

    BOOL = ffi.WASMTIME_COMPONENT_BOOL.value
    S8 = ffi.WASMTIME_COMPONENT_S8.value
    U8 = ffi.WASMTIME_COMPONENT_U8.value
    S16 = ffi.WASMTIME_COMPONENT_S16.value
    U16 = ffi.WASMTIME_COMPONENT_U16.value
    S32 = ffi.WASMTIME_COMPONENT_S32.value
    U32 = ffi.WASMTIME_COMPONENT_U32.value
    S64 = ffi.WASMTIME_COMPONENT_S64.value
    U64 = ffi.WASMTIME_COMPONENT_U64.value
    F32 = ffi.WASMTIME_COMPONENT_F32.value
    F64 = ffi.WASMTIME_COMPONENT_F64.value
    CHAR = ffi.WASMTIME_COMPONENT_CHAR.value
    STRING = ffi.WASMTIME_COMPONENT_STRING.value
    LIST = ffi.WASMTIME_COMPONENT_LIST.value
    RECORD = ffi.WASMTIME_COMPONENT_RECORD.value
    TUPLE = ffi.WASMTIME_COMPONENT_TUPLE.value
    VARIANT = ffi.WASMTIME_COMPONENT_VARIANT.value
    ENUM = ffi.WASMTIME_COMPONENT_ENUM.value
    OPTION = ffi.WASMTIME_COMPONENT_OPTION.value
    RESULT = ffi.WASMTIME_COMPONENT_RESULT.value
    FLAGS = ffi.WASMTIME_COMPONENT_FLAGS.value
    RESOURCE = ffi.WASMTIME_COMPONENT_RESOURCE.value


def new_bytes(target: int, data: bytes) -> None:
    """A string, or the name of a case."""
    _bytes_new(target, len(data), data)


def new_list(target: int, size: int) -> int:
    """Address of the first of ``size`` uninitialised values."""
    _list_new(target, size)
    return read_pointer(target + 8)


def new_record(target: int, size: int) -> int:
    """Address of the first of ``size`` uninitialised entries (name, then value)."""
    _record_new(target, size)
    return read_pointer(target + 8)


def copy_record(target: int, source: int) -> int:
    """Deep copy of the record payload at ``source``; the address of its first entry."""
    _record_copy(target, source)
    return read_pointer(target + 8)


def boxed(source: int) -> int:
    """Move the value at ``source`` to the heap; its new address."""
    return int(_val_new(source))


def function_type(pointer: int) -> FuncType:
    """View of the function type that a host function was given; valid as long as the caller's
    component is."""
    typed = ctypes.cast(pointer, POINTER(ffi.wasmtime_component_func_type_t))
    return FuncType._from_ptr(typed, owner=wasmtime)
