"""Request bodies: bounded, decompressed and known to be JSON; no Python objects are built."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from pharia_kernel.errors import BadRequest, InvalidJson, PayloadTooLarge, UnsupportedMediaType

_GZIP = zlib.MAX_WBITS | 16
_ZLIB = zlib.MAX_WBITS
_RAW_DEFLATE = -zlib.MAX_WBITS
_DECODED_AT_ONCE = 1 << 20
_json = msgspec.json.Decoder(msgspec.Raw)


async def read_json(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The request's body, which is UTF-8 JSON of at most ``limit`` bytes.

    Raises ``UnsupportedMediaType``, ``PayloadTooLarge``, ``BadRequest`` or ``InvalidJson``, and
    ``ClientDisconnect`` when the client goes away before it has sent everything.
    """
    _check_content_type(headers.get(b"content-type", b""))
    body = await read_body(headers, receive, limit)
    check_json(body)
    return body


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The whole body, decompressed; ``limit`` holds before and after decompression."""
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding not in (b"identity", b"gzip", b"x-gzip", b"deflate"):
        raise UnsupportedMediaType(
            f"Content-Encoding `{_shown(coding)}` is not supported; gzip and deflate are."
        )
    if int(headers.get(b"content-length", 0)) > limit:
        raise _too_large(limit)
    body = await _receive_all(receive, limit)
    if coding == b"identity":
        return body
    # In a thread: zlib releases the GIL, and a small body can unfold into one of `limit` bytes.
    return await asyncio.to_thread(_decompress, body, coding, limit)


def check_json(body: bytes) -> None:
    """Raise ``InvalidJson``, with the position, unless this is exactly one JSON value in UTF-8."""
    try:
        _json.decode(body)
        if not body.isascii():
            body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except msgspec.DecodeError as error:
        raise InvalidJson(_syntax_error(body, str(error))) from None
    except RecursionError:
        raise InvalidJson("The body's JSON is nested too deeply.") from None


def _check_content_type(content_type: bytes) -> None:
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type == b"application/json":
        return
    if media_type.startswith(b"application/") and media_type.endswith(b"+json"):
        return
    raise UnsupportedMediaType(
        f"Content-Type must be `application/json`, not `{_shown(content_type)}`."
        if content_type
        else "Content-Type is missing; it must be `application/json`."
    )


async def _receive_all(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decompress(body: bytes, coding: bytes, limit: int) -> bytes:
    window = _deflate_window(body) if coding == b"deflate" else _GZIP
    inflater = zlib.decompressobj(window)
    chunks: list[bytes] = []
    size = 0
    try:
        while not inflater.eof:
            chunk = inflater.decompress(body, _DECODED_AT_ONCE)
            body = inflater.unconsumed_tail
            if not chunk and not body:
                break
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
    except zlib.error as error:
        raise BadRequest(
            f"The body is not {coding.decode()}, as its Content-Encoding says: {error}."
        ) from None
    if not inflater.eof or inflater.unused_data:
        raise BadRequest(f"The body is not one complete {coding.decode()} stream.")
    return b"".join(chunks)


def _deflate_window(body: bytes) -> int:
    """``deflate`` is the zlib format (RFC 9110), but some clients leave out zlib's header."""
    zlib_header = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
    return _ZLIB if zlib_header else _RAW_DEFLATE


def _syntax_error(body: bytes, reason: str) -> str:
    if not body.strip():
        return "The body is empty; it must be one JSON value."
    if "truncated" in reason:
        return f"The body's JSON ends too early, after {len(body)} bytes."
    return f"The body is not valid JSON: {reason.removeprefix('JSON is malformed: ')}."


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit} bytes, the limit of this kernel.")


def _shown(header: bytes) -> str:
    return header[:100].decode("latin-1")
