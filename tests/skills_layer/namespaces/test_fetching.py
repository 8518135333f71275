"""Single requests to a real server."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pharia_kernel.skills.namespaces.fetching import (
    MAX_BYTES,
    AccessRefused,
    Fetcher,
    FetchFailed,
    Validators,
    public_url,
)

from .support import GOOD, TOKEN, DescriptionServer, description_server, hang

NOTHING = Validators()


@pytest.fixture
async def fetcher() -> AsyncGenerator[Fetcher, None]:
    fetcher = Fetcher(30)
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def failure(fetcher: Fetcher, url: str, known: Validators = NOTHING) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetcher.fetch(url, TOKEN, known)
    assert TOKEN not in repr(caught.value.args) + str(caught.value.causes)
    return caught.value


def respond(server: DescriptionServer, **response: object) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(**response)  # type: ignore[arg-type]

    server.handler = handler


async def test_a_description_and_then_only_changes(
    fetcher: Fetcher, server: DescriptionServer
) -> None:
    fetched = await fetcher.fetch(server.url, TOKEN, NOTHING)
    assert fetched
    assert fetched.text == GOOD
    assert fetched.validators.etag
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert server.requests[0].headers["Accept-Encoding"] == "gzip"
    assert await fetcher.fetch(server.url, TOKEN, fetched.validators) is None
    server.text = "skills = []"
    changed = await fetcher.fetch(server.url, TOKEN, fetched.validators)
    assert changed
    assert changed.text == "skills = []"


async def test_without_a_token(fetcher: Fetcher, server: DescriptionServer) -> None:
    await fetcher.fetch(server.url, None, NOTHING)
    assert "Authorization" not in server.requests[0].headers


async def test_credentials_in_the_url(fetcher: Fetcher, server: DescriptionServer) -> None:
    url = server.url.replace("//", "//me:pw@")
    await fetcher.fetch(url, None, NOTHING)
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    await fetcher.fetch(url, TOKEN, NOTHING)
    assert server.requests[1].headers["Authorization"] == f"Bearer {TOKEN}"


async def test_last_modified(fetcher: Fetcher, server: DescriptionServer) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    respond(server, text=GOOD, headers={"Last-Modified": date})
    fetched = await fetcher.fetch(server.url, None, NOTHING)
    assert fetched
    assert fetched.validators == Validators(None, date)
    respond(server, status=304)
    assert await fetcher.fetch(server.url, None, fetched.validators) is None
    assert server.requests[1].headers["If-Modified-Since"] == date


async def test_a_304_that_nobody_asked_for(fetcher: Fetcher, server: DescriptionServer) -> None:
    respond(server, status=304)
    assert "status 304" in (await failure(fetcher, server.url)).reason


async def test_an_etag_that_is_no_header_value(fetcher: Fetcher, server: DescriptionServer) -> None:
    respond(server, text=GOOD, headers={"ETag": '"ä"'})
    fetched = await fetcher.fetch(server.url, None, NOTHING)
    assert fetched
    assert fetched.validators == NOTHING


@pytest.mark.parametrize(
    ("status", "temporary"),
    [(500, True), (503, True), (429, True), (404, False), (410, False), (204, False), (206, False)],
)
async def test_statuses(
    fetcher: Fetcher, server: DescriptionServer, status: int, temporary: bool
) -> None:
    server.answer(status, {"Retry-After": "7"})
    error = await failure(fetcher, server.url)
    assert f"status {status}" in error.reason
    assert error.temporary is temporary
    assert error.retry_after == 7


@pytest.mark.parametrize("status", [401, 403])
async def test_refusals(fetcher: Fetcher, server: DescriptionServer, status: int) -> None:
    server.answer(status)
    error = await failure(fetcher, server.url)
    assert isinstance(error, AccessRefused)
    assert not error.temporary


# --- redirects ------------------------------------------------------------------------------------


async def test_a_redirect_on_the_same_origin(fetcher: Fetcher, server: DescriptionServer) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/end":
            return web.Response(text=GOOD)
        raise web.HTTPFound("/end")

    server.handler = handler
    fetched = await fetcher.fetch(server.url, TOKEN, NOTHING)
    assert fetched
    assert server.requests[1].headers["Authorization"] == f"Bearer {TOKEN}"


async def test_another_origin_does_not_get_the_token(
    fetcher: Fetcher, server: DescriptionServer
) -> None:
    async with description_server() as other:

        async def handler(_: web.Request) -> web.Response:
            raise web.HTTPFound(other.url)

        server.handler = handler
        assert await fetcher.fetch(server.url, TOKEN, NOTHING)
        assert "Authorization" not in other.requests[0].headers


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://", "ftp://x/y"])
async def test_redirects_to_nonsense(
    fetcher: Fetcher, server: DescriptionServer, location: str
) -> None:
    server.answer(302, {"Location": location})
    error = await failure(fetcher, server.url)
    assert "redirected to something that is not an HTTP URL" in error.reason
    assert not error.temporary


async def test_redirects_without_end(fetcher: Fetcher, server: DescriptionServer) -> None:
    server.answer(302, {"Location": "/again"})
    assert "redirected too often" in (await failure(fetcher, server.url)).reason


# --- broken answers -------------------------------------------------------------------------------


async def test_nobody_listens(fetcher: Fetcher, server: DescriptionServer) -> None:
    await server.stop()
    error = await failure(fetcher, server.url)
    assert error.causes == ("its server can't be reached", "Connection refused")
    assert error.temporary
    assert "127.0.0.1" not in error.reason


async def test_a_name_that_nobody_knows(fetcher: Fetcher) -> None:
    error = await failure(fetcher, "http://nowhere.invalid/secret-path")
    assert error.reason == "can't be had: its server's name is not known"
    assert error.temporary


async def test_a_server_that_does_not_answer(server: DescriptionServer) -> None:
    server.handler = hang
    fetcher = Fetcher(0.05)
    try:
        error = await failure(fetcher, server.url)
    finally:
        await fetcher.close()
    assert error.reason == "did not arrive within 0.05 s"
    assert error.temporary


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nskills = []",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nskill",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\n"
        + gzip.compress(GOOD.encode(), mtime=0)[:12],
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
)
async def test_answers_that_break_off_or_are_none(fetcher: Fetcher, answer: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(fetcher, f"http://127.0.0.1:{port}/x")
    assert error.temporary
    assert error.reason.startswith("can't be had: the ")


async def test_too_much(fetcher: Fetcher, server: DescriptionServer) -> None:
    server.text = "#" * (MAX_BYTES + 1)  # and compressed it is small
    error = await failure(fetcher, server.url)
    assert error.reason == "is larger than 1 MiB"
    assert not error.temporary


async def test_an_encoding_that_nobody_asked_for(
    fetcher: Fetcher, server: DescriptionServer
) -> None:
    respond(server, body=b"x", headers={"Content-Encoding": "zstd"})
    error = await failure(fetcher, server.url)
    assert error.reason == "has a content encoding other than gzip"


async def test_not_text(fetcher: Fetcher, server: DescriptionServer) -> None:
    respond(server, body=b"skills = [\xff]")
    assert (await failure(fetcher, server.url)).reason == "is not UTF-8 text (byte 11 is wrong)"


async def test_tls_that_is_none(fetcher: Fetcher, server: DescriptionServer) -> None:
    error = await failure(fetcher, server.url.replace("http:", "https:"))
    assert error.reason == "can't be had: TLS with its server failed"


async def test_a_certificate_that_nobody_vouches_for(
    fetcher: Fetcher, tmp_path: Path, self_signed: tuple[Path, Path]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*self_signed)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(fetcher, f"https://127.0.0.1:{port}/x")
    assert error.causes == (
        "its server's TLS certificate is not accepted",
        "self-signed certificate",
    )


async def test_from_https_to_http(
    server: DescriptionServer, self_signed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        location = f"Location: {server.url}\r\nContent-Length: 0"
        writer.write(f"HTTP/1.1 302 Found\r\n{location}\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    trusting = ssl.create_default_context(cafile=self_signed[0])
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*self_signed)
    tls = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    fetcher = Fetcher(30)
    async with tls:
        port = tls.sockets[0].getsockname()[1]
        try:
            error = await failure(fetcher, f"https://127.0.0.1:{port}/x")
        finally:
            await fetcher.close()
    assert error.reason == "is redirected from https to http"


async def test_a_connection_that_is_reset(fetcher: Fetcher) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        connection: socket.socket = writer.get_extra_info("socket")
        linger = b"\x01\0\0\0\0\0\0\0"  # a reset instead of a regular end
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(fetcher, f"http://127.0.0.1:{port}/x")
    assert error.reason == "can't be had: the connection broke"


# --- what is told of a URL ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://git.example.com/a/b.toml", "https://git.example.com/a/b.toml"),
        ("http://me:pw@[::1]:8080/a?token=x#y", "http://[::1]:8080/a"),
        ("https://me@host", "https://host"),
    ],
)
def test_public_urls(url: str, public: str) -> None:
    assert public_url(url) == public
