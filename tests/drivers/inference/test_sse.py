from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharia_kernel.drivers.inference.sse import ServerSentEvent, SseParser
from pharia_kernel.errors import BadUpstreamAnswer


def parse(*pieces: bytes) -> list[ServerSentEvent]:
    parser = SseParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.finish()


def test_an_event_is_data_up_to_a_blank_line() -> None:
    parser = SseParser()
    assert parser.feed(b"data: one\n") == []
    assert parser.feed(b"\ndata: two\n\n") == [ServerSentEvent(b"one"), ServerSentEvent(b"two")]


def test_the_event_field_names_the_event_and_only_that_one() -> None:
    assert parse(b"event: error\ndata: 1\n\ndata: 2\n\n") == [
        ServerSentEvent(b"1", b"error"),
        ServerSentEvent(b"2", b"message"),
    ]


def test_data_lines_are_joined() -> None:
    assert parse(b"data: one\ndata:two\ndata\n\n") == [ServerSentEvent(b"one\ntwo\n")]


def test_only_one_space_after_the_colon_is_dropped() -> None:
    assert parse(b"data:  x\n\n") == [ServerSentEvent(b" x")]


def test_comments_and_other_fields_and_names_without_data_are_skipped() -> None:
    assert parse(b": ping\nid: 7\nretry: 1\nevent: nothing\n\ndata: x\n\n") == [
        ServerSentEvent(b"x")
    ]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbfdata: x\n\n") == [ServerSentEvent(b"x")]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_the_last_event_needs_no_blank_line(end: bytes) -> None:
    assert parse(b"data: one\n\ndata: two" + end) == [
        ServerSentEvent(b"one"),
        ServerSentEvent(b"two"),
    ]


@pytest.mark.parametrize(
    "pieces",
    [(b"data: " + b"x" * 100,), (b"data: " + b"x" * 40 + b"\n",) * 2],
)
def test_an_event_that_is_too_large_is_refused(pieces: tuple[bytes, ...]) -> None:
    parser = SseParser(max_event_bytes=64)
    with pytest.raises(BadUpstreamAnswer, match="64"):
        for piece in pieces:
            parser.feed(piece)


lines = st.lists(
    st.sampled_from(
        [
            b"",
            b"data: a",
            b"data:b",
            b"data",
            b"event: error",
            b": c",
            "data: ü😀".encode(),
            b"id: 1",
        ]
    ),
    max_size=12,
)


@given(lines, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_line_ends_and_cuts_do_not_matter(
    parts: list[bytes], end: bytes, data: st.DataObject
) -> None:
    expected = parse(b"".join(part + b"\n" for part in parts))
    body = b"".join(part + end for part in parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    bounds = [0, *cuts, len(body)]
    pieces = [body[start:stop] for start, stop in pairwise(bounds)]
    assert parse(*pieces) == expected
    assert parse(*(bytes([byte]) for byte in body)) == expected
