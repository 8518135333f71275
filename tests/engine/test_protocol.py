from __future__ import annotations

import itertools
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pharia_kernel.engine import protocol
from pharia_kernel.engine.protocol import (
    MAX_FRAME,
    Call,
    Cancel,
    Consumed,
    Done,
    Emit,
    FrameReader,
    Load,
    Loaded,
    Output,
    ProtocolError,
    Ready,
    Reply,
    Start,
    ToEngine,
    ToKernel,
    Unload,
    encode,
)

RAW = Raw(msgspec.msgpack.encode(["wörter", {"a": b"\0\xff", "b": None}]))
TO_ENGINE: list[ToEngine] = [
    Load("sha256:1", "/some/where.cwasm"),
    Unload("sha256:1"),
    Start(1, "sha256:1", "run", b"\0\xff", 512 << 20, 65536),
    Start(2**62, "sha256:1", "metadata", b"", 1, 0),
    Reply(1, 2, RAW),
    Consumed(1, 64),
    Cancel(1),
]
TO_KERNEL: list[ToKernel] = [
    Ready(1, True, False),
    Loaded("sha256:1", None),
    Loaded("sha256:1", "kaputt"),
    Call(1, 0, "pharia:skill/inference@0.3.11#chat", RAW),
    Emit(1, RAW),
    Output(1, "stderr", b"\xff"),
    Done(1, "returned", b"out", 0.25),
    Done(1, "refused-internal", b"", 0.0),
]


def read_all(frames: Any, data: bytes, cuts: list[int] | None = None) -> list[Any]:
    reader = FrameReader(frames)
    edges = [0, *sorted(cuts or []), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    return [frame for piece in pieces for frame in reader.feed(piece)]


def plain(frame: Any) -> Any:
    """Frames with ``Raw`` members don't compare by content."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(frame))


@pytest.mark.parametrize(
    ("frames", "frame"),
    [(ToEngine, frame) for frame in TO_ENGINE] + [(ToKernel, frame) for frame in TO_KERNEL],
    ids=lambda value: type(value).__name__,
)
def test_every_frame_arrives_as_it_was_sent(frames: Any, frame: Any) -> None:
    (received,) = read_all(frames, encode(frame))
    assert type(received) is type(frame)
    assert plain(received) == plain(frame)


def test_all_frame_types_are_covered() -> None:
    assert {type(frame) for frame in TO_ENGINE} == set(ToEngine.__args__)
    assert {type(frame) for frame in TO_KERNEL} == set(ToKernel.__args__)


STREAM = b"".join(map(encode, TO_KERNEL))


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_frames_may_be_split_anywhere(cuts: list[int]) -> None:
    assert list(map(plain, read_all(ToKernel, STREAM, cuts))) == list(map(plain, TO_KERNEL))


def test_bytes_may_come_one_by_one() -> None:
    cuts = list(range(len(STREAM)))
    assert list(map(plain, read_all(ToKernel, STREAM, cuts))) == list(map(plain, TO_KERNEL))


def test_a_raw_member_outlives_the_buffer_it_came_in() -> None:
    reader = FrameReader(ToKernel)
    (call,) = reader.feed(encode(Call(1, 1, "f", RAW)))
    list(reader.feed(encode(Output(1, "stdout", b"x" * 1000)) * 10))
    assert bytes(call.args) == bytes(RAW)


def test_an_announced_frame_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(ProtocolError, match=f"{MAX_FRAME + 1} bytes is over the limit"):
        list(FrameReader(ToKernel).feed(struct.pack("<I", MAX_FRAME + 1)))


def test_the_limit_holds_for_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Output(1, "stdout", b"x" * 100)
    size = len(encode(frame)) - 4
    monkeypatch.setattr(protocol, "MAX_FRAME", size)
    assert read_all(ToKernel, encode(frame)) == [frame]
    monkeypatch.setattr(protocol, "MAX_FRAME", size - 1)
    with pytest.raises(ProtocolError, match="over the limit"):
        encode(frame)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(["unknown", 1]),
        msgspec.msgpack.encode(["done", 1]),
        msgspec.msgpack.encode(["done", 1, "no such outcome", b"", 0.0]),
        msgspec.msgpack.encode(["output", "1", "stdout", b""]),
        msgspec.msgpack.encode(["load", "sha256:1", "/path"]),  # one for the other direction
        msgspec.msgpack.encode({"run": 1}),
        encode(TO_KERNEL[0])[4:] + b"\0",
    ],
    ids=repr,
)
def test_what_is_no_frame_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="undecodable frame"):
        list(FrameReader(ToKernel).feed(struct.pack("<I", len(body)) + body))


@given(st.binary(max_size=200))
def test_noise_gives_frames_or_a_protocol_error(data: bytes) -> None:
    try:
        frames = list(FrameReader(ToKernel).feed(data))
    except ProtocolError:
        return
    assert all(isinstance(frame, ToKernel) for frame in frames)


def test_frames_before_a_broken_one_are_delivered() -> None:
    reader = FrameReader(ToKernel).feed(encode(TO_KERNEL[0]) + struct.pack("<I", 1) + b"\xc1")
    assert next(reader) == TO_KERNEL[0]
    with pytest.raises(ProtocolError):
        next(reader)
