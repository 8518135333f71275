"""The author's side of the frames against the kernel's."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pharia_kernel.dev.native import frames
from pharia_kernel.engine import protocol

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES)
def test_values_cross_unchanged_in_both_directions(value: object) -> None:
    assert frames.unpack(msgspec.msgpack.encode(value)) == value
    assert msgspec.msgpack.decode(frames.pack(value)) == value


@pytest.mark.parametrize("size", [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536])
def test_sizes_at_the_limits_of_each_form(size: int) -> None:
    for value in ("x" * size, b"x" * size, [1] * size, {str(i): i for i in range(size)}):
        assert frames.unpack(msgspec.msgpack.encode(value)) == value
        assert msgspec.msgpack.decode(frames.pack(value)) == value


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="can't cross"):
        frames.pack(value)


def test_numbers_beyond_64_bits_are_refused() -> None:
    with pytest.raises(struct.error):
        frames.pack(1 << 64)


def test_a_code_that_is_not_used_is_refused() -> None:
    with pytest.raises(ValueError, match="0xc1"):
        frames.unpack(b"\xc1")


def test_frames_for_the_kernel() -> None:
    done = frames.frame("done", 7, "returned", b"value", 0.5)
    call = frames.frame("call", 7, 1, "pharia:skill/tool@0.4.0#list-tools", [])
    found = list(protocol.FrameReader(protocol.ToKernel).feed(done + call))
    assert found[0] == protocol.Done(7, "returned", b"value", 0.5)
    assert (found[1].run, found[1].call, bytes(found[1].args)) == (7, 1, b"\x90")


def test_frames_of_the_kernel_in_pieces() -> None:
    start = protocol.Start(300, "sha256:00", "run", b"{}", 1 << 29, 1 << 16)
    reply = protocol.Reply(300, 2, Raw(msgspec.msgpack.encode({"a": None})))
    data = protocol.encode(start) + protocol.encode(reply)
    bodies = frames.Bodies()
    found = [body for i in range(len(data)) for body in bodies.feed(data[i : i + 1])]
    assert [frames.tag_of(body) for body in found] == ["start", "reply"]
    assert frames.unpack(found[0])[1:] == [300, "sha256:00", "run", b"{}", 1 << 29, 1 << 16]
    assert frames.unpack(found[1]) == ["reply", 300, 2, {"a": None}]
