"""Lifting and lowering: component values to plain data and back.

========================  ==================================
WIT                       plain data
========================  ==================================
``bool``, numbers         ``bool``, ``int``, ``float``
``string``                ``str``
``list<u8>``              ``bytes``
``list<T>``               ``list``
``record``                ``dict`` with the WIT names
``variant``               ``[case, payload or None]``
``enum``                  ``str``
``option<T>``             ``None`` or the value
``result<T, E>``          ``["ok" or "err", payload or None]``
========================  ==================================

Converters are built once per type. They work on raw memory: a lifter gets a buffer with a value at
an offset, a lowerer writes a value to an address. Resources never get here: they are handles, not
data.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any, cast

from wasmtime import component as wit

from pharia_kernel.engine.binding import (
    PAYLOAD,
    RECORD_ENTRY_SIZE,
    RECORD_ENTRY_VAL,
    VAL_SIZE,
    Kind,
    boxed,
    copy_record,
    new_bytes,
    new_list,
    new_record,
)

Lifter = Callable[[bytes, int], Any]
"""(buffer, offset of the value) -> plain data"""

Lowerer = Callable[[Any, int], None]
"""(plain data, address of the value). If it raises, what it wrote must not be used (and is
leaked)."""

_string_at = ctypes.string_at
_move = ctypes.memmove
_VECTOR = struct.Struct("@NN")
_POINTER = struct.Struct("@N")
_NAME_AND_POINTER = struct.Struct("@NNN")
_RESULT = struct.Struct("@?7xN")

_NUMBERS: dict[type[wit.ValType], tuple[int, str]] = {
    wit.Bool: (Kind.BOOL, "?"),
    wit.S8: (Kind.S8, "b"),
    wit.U8: (Kind.U8, "B"),
    wit.S16: (Kind.S16, "h"),
    wit.U16: (Kind.U16, "H"),
    wit.S32: (Kind.S32, "i"),
    wit.U32: (Kind.U32, "I"),
    wit.S64: (Kind.S64, "q"),
    wit.U64: (Kind.U64, "Q"),
    wit.F32: (Kind.F32, "f"),
    wit.F64: (Kind.F64, "d"),
}


class UnsupportedType(Exception):
    """A type that no function of ``pharia:skill`` uses."""


def lift_one(lifter: Lifter, address: int) -> Any:
    """Lift the value at ``address``."""
    return lifter(_string_at(address, VAL_SIZE), 0)


def lower_one(lowerer: Lowerer, value: Any, address: int) -> None:
    """Write the value to ``address``, or nothing at all if it can't be lowered."""
    scratch = ctypes.create_string_buffer(VAL_SIZE)
    lowerer(value, ctypes.addressof(scratch))
    _move(address, scratch, VAL_SIZE)


def lift_handle(buffer: bytes, offset: int) -> int:
    """Pointer to the resource handle that a value holds."""
    return int(_POINTER.unpack_from(buffer, offset + PAYLOAD)[0])


def lower_handle(pointer: int, address: int) -> None:
    """Write a resource handle as a value."""
    _move(address, _kind(Kind.RESOURCE) + _POINTER.pack(pointer), PAYLOAD + _POINTER.size)


# --- lifting --------------------------------------------------------------------------------------


def lifter(type_: wit.ValType, *, decode: bool = True) -> Lifter:
    """The lifter for a type; raises ``UnsupportedType``. Without ``decode``, strings become the
    ``bytes`` of their UTF-8."""
    number = _NUMBERS.get(type(type_))
    if number:
        return _lift_number(number[1])
    match type_:
        case wit.String():
            return _lift_name if decode else _lift_utf8
        case wit.EnumType():
            return _lift_name
        case wit.ListType() if isinstance(type_.element, wit.U8):
            return _lift_bytes
        case wit.ListType():
            return _lift_list(lifter(type_.element, decode=decode))
        case wit.RecordType():
            fields = [(name, lifter(field, decode=decode)) for name, field in type_.fields]
            return _lift_record(fields)
        case wit.VariantType():
            cases = {name: _optional(case, decode) for name, case in type_.cases}
            return _lift_variant(cases)
        case wit.OptionType():
            return _lift_option(lifter(type_.payload, decode=decode))
        case wit.ResultType():
            return _lift_result(_optional(type_.ok, decode), _optional(type_.err, decode))
    raise UnsupportedType(type(type_).__name__)


def _optional(type_: wit.ValType | None, decode: bool) -> Lifter | None:
    return None if type_ is None else lifter(type_, decode=decode)


def _lift_number(code: str) -> Lifter:
    unpack = struct.Struct(f"={code}").unpack_from

    def lift(buffer: bytes, offset: int) -> Any:
        return unpack(buffer, offset + PAYLOAD)[0]

    return lift


def _lift_name(buffer: bytes, offset: int) -> str:
    return _lift_utf8(buffer, offset).decode()


def _lift_utf8(buffer: bytes, offset: int) -> bytes:
    size, data = _VECTOR.unpack_from(buffer, offset + PAYLOAD)
    return _string_at(data, size) if size else b""


def _lift_bytes(buffer: bytes, offset: int) -> bytes:
    size, data = _VECTOR.unpack_from(buffer, offset + PAYLOAD)
    if not size:
        return b""
    # Slicing an array of c_char with a step copies without a Python step per byte.
    memory = (ctypes.c_char * (size * VAL_SIZE)).from_address(data)
    return cast(bytes, memory[PAYLOAD::VAL_SIZE])


def _lift_list(lift_element: Lifter) -> Lifter:
    def lift(buffer: bytes, offset: int) -> list[Any]:
        size, data = _VECTOR.unpack_from(buffer, offset + PAYLOAD)
        if not size:
            return []
        block = _string_at(data, size * VAL_SIZE)
        return [lift_element(block, i) for i in range(0, size * VAL_SIZE, VAL_SIZE)]

    return lift


def _lift_record(lifters: list[tuple[str, Lifter]]) -> Lifter:
    fields = [
        (name, lift_field, i * RECORD_ENTRY_SIZE + RECORD_ENTRY_VAL)
        for i, (name, lift_field) in enumerate(lifters)
    ]
    block_size = len(fields) * RECORD_ENTRY_SIZE

    def lift(buffer: bytes, offset: int) -> dict[str, Any]:
        _, data = _VECTOR.unpack_from(buffer, offset + PAYLOAD)
        block = _string_at(data, block_size)
        return {name: lift_field(block, at) for name, lift_field, at in fields}

    return lift


def _lift_boxed(lift: Lifter | None, pointer: int) -> Any:
    return None if lift is None else lift(_string_at(pointer, VAL_SIZE), 0)


def _lift_variant(cases: dict[str, Lifter | None]) -> Lifter:
    def lift(buffer: bytes, offset: int) -> list[Any]:
        size, data, pointer = _NAME_AND_POINTER.unpack_from(buffer, offset + PAYLOAD)
        case = _string_at(data, size).decode()
        return [case, _lift_boxed(cases[case], pointer)]

    return lift


def _lift_option(lift_some: Lifter) -> Lifter:
    def lift(buffer: bytes, offset: int) -> Any:
        (pointer,) = _POINTER.unpack_from(buffer, offset + PAYLOAD)
        return lift_some(_string_at(pointer, VAL_SIZE), 0) if pointer else None

    return lift


def _lift_result(lift_ok: Lifter | None, lift_err: Lifter | None) -> Lifter:
    def lift(buffer: bytes, offset: int) -> list[Any]:
        is_ok, pointer = _RESULT.unpack_from(buffer, offset + PAYLOAD)
        if is_ok:
            return ["ok", _lift_boxed(lift_ok, pointer)]
        return ["err", _lift_boxed(lift_err, pointer)]

    return lift


# --- lowering -------------------------------------------------------------------------------------


def lowerer(type_: wit.ValType) -> Lowerer:
    """The lowerer for a type; raises ``UnsupportedType``."""
    number = _NUMBERS.get(type(type_))
    if number and number[0] != Kind.BOOL:
        return _lower_number(*number)
    match type_:
        case wit.Bool():
            return _lower_bool
        case wit.String():
            return _lower_string
        case wit.EnumType():
            return _lower_enum(frozenset(type_.names))
        case wit.ListType():
            return lower_bytes if isinstance(type_.element, wit.U8) else _lower_list(type_.element)
        case wit.RecordType():
            return _lower_record(type_)
        case wit.VariantType():
            return _lower_variant(type_)
        case wit.OptionType():
            return _lower_option(type_.payload)
        case wit.ResultType():
            return _lower_result(type_)
    raise UnsupportedType(type(type_).__name__)


def _lower_number(kind: int, code: str) -> Lowerer:
    packer = struct.Struct(f"=B{PAYLOAD - 1}x{code}")

    def lower(value: Any, address: int) -> None:
        _move(address, packer.pack(kind, value), packer.size)

    return lower


def _kind(kind: int) -> bytes:
    return bytes([kind]).ljust(PAYLOAD, b"\0")


_STRING, _ENUM, _LIST, _RECORD, _VARIANT, _OPTION, _RESULT_KIND = map(
    _kind,
    (
        Kind.STRING,
        Kind.ENUM,
        Kind.LIST,
        Kind.RECORD,
        Kind.VARIANT,
        Kind.OPTION,
        Kind.RESULT,
    ),
)
_U8 = bytes([Kind.U8])


_BOOL = {value: _kind(Kind.BOOL) + bytes([value]) for value in (False, True)}
"""By value, because ``struct`` takes anything for a truth value."""


def _lower_bool(value: bool, address: int) -> None:
    _move(address, _BOOL[value], PAYLOAD + 1)


def _lower_string(value: str, address: int) -> None:
    _move(address, _STRING, PAYLOAD)
    new_bytes(address + PAYLOAD, value.encode())


def lower_utf8(value: bytes, address: int) -> None:
    """Lower to ``string``; raises ``UnicodeDecodeError`` if that is not what the bytes are."""
    if not value.isascii():  # which is quick
        value.decode()  # wasmtime would abort the process
    _move(address, _STRING, PAYLOAD)
    new_bytes(address + PAYLOAD, value)


def _lower_enum(names: frozenset[str]) -> Lowerer:
    def lower(value: str, address: int) -> None:
        if value not in names:
            raise ValueError(f"{value!r} is not one of {sorted(names)}")
        _move(address, _ENUM, PAYLOAD)
        new_bytes(address + PAYLOAD, value.encode())

    return lower


def lower_bytes(value: bytes, address: int) -> None:
    """Lower to ``list<u8>``."""
    if not isinstance(value, bytes):
        raise TypeError(f"bytes are needed, not {type(value).__name__}")
    size = len(value)
    _move(address, _LIST, PAYLOAD)
    data = new_list(address + PAYLOAD, size)
    if size:
        memory = memoryview((ctypes.c_char * (size * VAL_SIZE)).from_address(data)).cast("B")
        memory[0::VAL_SIZE] = _U8 * size
        memory[PAYLOAD::VAL_SIZE] = value


def _lower_list(element: wit.ValType) -> Lowerer:
    lower_element = lowerer(element)

    def lower(value: list[Any], address: int) -> None:
        if not isinstance(value, list):  # a string or a map can be walked through as well
            raise TypeError(f"a list is needed, not {type(value).__name__}")
        _move(address, _LIST, PAYLOAD)
        at = new_list(address + PAYLOAD, len(value))
        for item in value:
            lower_element(item, at)
            at += VAL_SIZE

    return lower


def _lower_record(type_: wit.RecordType) -> Lowerer:
    fields = [
        (name, lowerer(field), i * RECORD_ENTRY_SIZE + RECORD_ENTRY_VAL)
        for i, (name, field) in enumerate(type_.fields)
    ]
    template = _record_template([name for name, _, _ in fields])
    source = ctypes.addressof(template)

    def lower(value: dict[str, Any], address: int) -> None:
        _move(address, _RECORD, PAYLOAD)
        entries = copy_record(address + PAYLOAD, source)
        for name, lower_field, at in fields:
            lower_field(value[name], entries + at)

    lower.__dict__["template"] = template  # keeps it alive as long as the lowerer
    return lower


def _record_template(names: list[str]) -> Any:
    """A record payload whose fields are all false: copying it is one call, naming its fields is one
    for each."""
    payload = ctypes.create_string_buffer(VAL_SIZE)
    entries = new_record(ctypes.addressof(payload), len(names))
    ctypes.memset(entries, 0, len(names) * RECORD_ENTRY_SIZE)
    for i, name in enumerate(names):
        new_bytes(entries + i * RECORD_ENTRY_SIZE, name.encode())
    return payload


def _box(lower: Lowerer, value: Any) -> int:
    scratch = ctypes.create_string_buffer(VAL_SIZE)
    lower(value, ctypes.addressof(scratch))
    return boxed(ctypes.addressof(scratch))


def _lower_variant(type_: wit.VariantType) -> Lowerer:
    cases = {name: None if case is None else lowerer(case) for name, case in type_.cases}

    def lower(value: list[Any], address: int) -> None:
        case = value[0]
        lower_payload = cases[case]
        pointer = 0 if lower_payload is None else _box(lower_payload, value[1])
        _move(address, _VARIANT, PAYLOAD)
        new_bytes(address + PAYLOAD, case.encode())
        _move(address + PAYLOAD + _VECTOR.size, _POINTER.pack(pointer), _POINTER.size)

    return lower


def _lower_option(some: wit.ValType) -> Lowerer:
    lower_some = lowerer(some)

    def lower(value: Any, address: int) -> None:
        pointer = 0 if value is None else _box(lower_some, value)
        _move(address, _OPTION + _POINTER.pack(pointer), PAYLOAD + _POINTER.size)

    return lower


def _lower_result(type_: wit.ResultType) -> Lowerer:
    lower_ok = None if type_.ok is None else lowerer(type_.ok)
    lower_err = None if type_.err is None else lowerer(type_.err)

    def lower(value: list[Any], address: int) -> None:
        if value[0] not in ("ok", "err"):
            raise ValueError(f"{value[0]!r} is neither 'ok' nor 'err'")
        is_ok = value[0] == "ok"
        lower_payload = lower_ok if is_ok else lower_err
        pointer = 0 if lower_payload is None else _box(lower_payload, value[1])
        _move(address, _RESULT_KIND + _RESULT.pack(is_ok, pointer), PAYLOAD + _RESULT.size)

    return lower
