"""The frames of ``engine.protocol`` as plain lists, and msgpack for what WIT values become.

https://github.com/msgpack/msgpack/blob/master/spec.md without timestamps and extensions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

LENGTH = struct.Struct("<I")

_FLOAT = struct.Struct(">d")
_SIZES = {1: struct.Struct(">B"), 2: struct.Struct(">H"), 4: struct.Struct(">I")}
_UNSIGNED = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
_NUMBERS = {
    **_UNSIGNED,
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
    0xCA: ">f",
    0xCB: ">d",
}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY = {0xDC: 2, 0xDD: 4}
_MAP = {0xDE: 2, 0xDF: 4}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def frame(*parts: Any) -> bytes:
    """A frame with its length in front."""
    body = pack(list(parts))
    return LENGTH.pack(len(body)) + body


def tag_of(body: bytes) -> str:
    """The first element of a frame, which is a short text, without decoding the others."""
    return body[2 : 2 + (body[1] & 0x1F)].decode()


class Bodies:
    """Cuts a byte stream into the frames' bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH.size : end])
            del self._buffer[:end]
            yield body


def pack(value: Any) -> bytes:
    """Raises ``TypeError`` for what has no form, ``UnicodeEncodeError`` for lone surrogates, and
    ``struct.error`` for numbers beyond 64 bits."""
    parts: list[bytes] = []
    _pack(value, parts.append)
    return b"".join(parts)


def _pack(value: Any, add: Any) -> None:
    if value is None:
        add(b"\xc0")
    elif isinstance(value, bool):
        add(b"\xc3" if value else b"\xc2")
    elif isinstance(value, str):
        data = value.encode()
        add(_head(len(data), 0xA0, 32, _TEXT))
        add(data)
    elif isinstance(value, int):
        add(_integer(value))
    elif isinstance(value, float):
        add(b"\xcb" + _FLOAT.pack(value))
    elif isinstance(value, bytes):
        add(_head(len(value), 0, 0, _BYTES))
        add(value)
    elif isinstance(value, list | tuple):
        add(_head(len(value), 0x90, 16, _ARRAY))
        for item in value:
            _pack(item, add)
    elif isinstance(value, dict):
        add(_head(len(value), 0x80, 16, _MAP))
        for key, item in value.items():
            _pack(key, add)
            _pack(item, add)
    else:
        raise TypeError(f"{type(value).__name__} can't cross the component's boundary")


def _head(size: int, short: int, below: int, long: dict[int, int]) -> bytes:
    if size < below:
        return bytes([short | size])
    code, width = next((c, w) for c, w in long.items() if size < 1 << 8 * w)
    return bytes([code]) + _SIZES[width].pack(size)


def _integer(value: int) -> bytes:
    if 0 <= value < 128:
        return bytes([value])
    return b"\xcf" + struct.pack(">Q", value) if value > 0 else b"\xd3" + struct.pack(">q", value)


def unpack(data: bytes) -> Any:
    """The value; text is UTF-8."""
    value, _ = _unpack(data, 0)
    return value


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    code = data[at]
    at += 1
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 256, at
    if code < 0x90:
        return _unpack_map(data, at, code & 0x0F)
    if code < 0xA0:
        return _unpack_list(data, at, code & 0x0F)
    if code < 0xC0:
        end = at + (code & 0x1F)
        return data[at:end].decode(), end
    if code in _CONSTANTS:
        return _CONSTANTS[code], at
    if format_ := _NUMBERS.get(code):
        return struct.unpack_from(format_, data, at)[0], at + struct.calcsize(format_)
    return _unpack_long(data, at, code)


def _unpack_long(data: bytes, at: int, code: int) -> tuple[Any, int]:
    for codes in (_BYTES, _TEXT, _ARRAY, _MAP):
        if width := codes.get(code):
            (size,) = _SIZES[width].unpack_from(data, at)
            at += width
            if codes is _ARRAY:
                return _unpack_list(data, at, size)
            if codes is _MAP:
                return _unpack_map(data, at, size)
            raw = data[at : at + size]
            return (raw if codes is _BYTES else raw.decode()), at + size
    raise ValueError(f"msgpack code {code:#x} is not used here")


def _unpack_list(data: bytes, at: int, size: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(size):
        item, at = _unpack(data, at)
        items.append(item)
    return items, at


def _unpack_map(data: bytes, at: int, size: int) -> tuple[dict[Any, Any], int]:
    items = {}
    for _ in range(size):
        key, at = _unpack(data, at)
        items[key], at = _unpack(data, at)
    return items, at
