from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from pharia_kernel.errors import BadRequest, InvalidJson
from pharia_kernel.shell.body import check_json, read_body

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_json_is_accepted(value: object, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    check_json(text.encode())


@given(VALUES.map(json.dumps), st.data())
def test_cut_json_is_refused(text: str, data: st.DataObject) -> None:
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        json.loads(cut)  # a cut number may be a number
    except ValueError:
        with pytest.raises(InvalidJson):
            check_json(cut.encode())


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[1, 2", "ends too early, after 5 bytes"),
        (b'{"a":1,}', "byte 7"),
        (b"{} {}", "trailing characters"),
        (b"NaN", "byte 0"),
        (b"\xef\xbb\xbf{}", "byte 0"),
        (b'"a\x01"', "byte 2"),
        (b'["\xff"]', "not UTF-8"),
        (b'["\xff"]', "byte 2"),
        (b"[" * 1_000_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, detail: str) -> None:
    with pytest.raises(InvalidJson, match=detail):
        check_json(body)


async def _read(body: bytes, coding: str, limit: int = 1 << 24) -> bytes:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return await read_body({b"content-encoding": coding.encode()}, receive, limit)


@given(st.binary(max_size=100), st.integers(1, 100_000))
async def test_decompression_gives_the_original(part: bytes, times: int) -> None:
    original = part * times
    assert await _read(gzip.compress(original, 1), "GZIP") == original


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_what_is_not_compressed_is_refused(coding: str) -> None:
    with pytest.raises(BadRequest, match=coding):
        await _read(b'{"a": 1}', coding)


async def test_incomplete_stream_is_refused() -> None:
    with pytest.raises(BadRequest, match="not one complete gzip stream"):
        await _read(gzip.compress(b"x" * 10_000)[:-9], "gzip")
    with pytest.raises(BadRequest, match="not one complete gzip stream"):
        await _read(gzip.compress(b"{}") + b"more", "gzip")
