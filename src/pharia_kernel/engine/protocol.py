"""Frames between the kernel and an engine: a 4-byte little-endian length, then that many bytes of
msgpack.

The kernel trusts no engine: whatever does not decode to exactly these types ends the connection.
Both sides are from one release; the version in ``Ready`` catches a half-updated installation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

VERSION = 1

MAX_FRAME = 256 << 20
"""Bytes. The largest are inputs and outputs of skills."""

_LENGTH = struct.Struct("<I")


class ProtocolError(Exception):
    """The peer sent something that is no frame."""


class _Frame(Struct, array_like=True):
    pass


# --- kernel to engine -----------------------------------------------------------------------------


class Load(_Frame, tag="load"):
    digest: str
    path: str


class Unload(_Frame, tag="unload"):
    digest: str


class Start(_Frame, tag="start"):
    run: int
    digest: str
    entry: Literal["run", "metadata"]
    input: bytes
    memory_limit: int
    """Bytes per linear memory."""
    output_limit: int
    """Bytes of standard output and error together that are sent to the kernel."""


class Reply(_Frame, tag="reply"):
    """Answer to a call. For ``next`` of a stream: the events that are there, none at its end."""

    run: int
    call: int
    value: Raw


class Consumed(_Frame, tag="consumed"):
    """So many stream items have left the kernel."""

    run: int
    items: int


class Cancel(_Frame, tag="cancel"):
    """Drop the guest. Answered with ``Done``, unless one was already on its way."""

    run: int


# --- engine to kernel -----------------------------------------------------------------------------


class Ready(_Frame, tag="ready"):
    version: int
    pooling: bool
    isolated: bool
    """Whether the process gave up its network namespace."""


class Loaded(_Frame, tag="loaded"):
    digest: str
    error: str | None


class Call(_Frame, tag="call"):
    run: int
    call: int
    """0: no reply wanted."""
    function: str
    args: Raw


class Emit(_Frame, tag="emit"):
    run: int
    item: Raw


class Output(_Frame, tag="output"):
    run: int
    channel: Literal["stdout", "stderr"]
    data: bytes


Outcome = Literal["returned", "refused-internal", "refused-invalid-input", "trapped", "cancelled"]


class Done(_Frame, tag="done"):
    run: int
    outcome: Outcome
    value: bytes
    """Output, or the text of the error or trap in UTF-8."""
    guest_seconds: float
    """Time spent executing the guest."""


ToEngine = Load | Unload | Start | Reply | Consumed | Cancel
ToKernel = Ready | Loaded | Call | Emit | Output | Done

_encoder = msgspec.msgpack.Encoder()


def encode(frame: ToEngine | ToKernel) -> bytes:
    body = _encoder.encode(frame)
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"frame of {len(body)} bytes is over the limit of {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frames of one union of types."""

    def __init__(self, frames: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(frames)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The frames that are complete now; raises ``ProtocolError``."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > MAX_FRAME:
                    raise ProtocolError(f"frame of {length} bytes is over the limit of {MAX_FRAME}")
                end = start + _LENGTH.size + length
                if len(buffer) < end:
                    break
                body = bytes(memoryview(buffer)[start + _LENGTH.size : end])
                start = end
                try:
                    frame = self._decoder.decode(body)
                except msgspec.MsgspecError as error:
                    raise ProtocolError(f"undecodable frame: {error}") from error
                yield frame
        finally:
            del buffer[:start]
