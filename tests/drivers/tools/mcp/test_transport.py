"""The transport alone, against servers that break HTTP in every way."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from pharia_kernel.drivers.tools.mcp import transport
from pharia_kernel.drivers.tools.mcp.transport import CURRENT, Exchange, IsolatingTransport
from tests.drivers.tools.mcp.support import within

REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
BODY = b'{"id":1,"method":"tools/list"}'
ERROR = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}'
JSON = "application/json; charset=utf-8"
EVENTS = "text/event-stream"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answers(status: int, body: bytes, content_type: str = JSON, *, length: int = -1) -> Behaviour:
    """``length`` is what the head promises, if it is not the truth."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n"
        head += f"Content-Length: {len(body) if length < 0 else length}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return behave


async def hangs_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    pass


async def babbles(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
    await writer.drain()


async def is_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()  # until the client gives up


async def begins_a_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\n\r\n: hi\n\n".encode())
    await writer.drain()
    await reader.read()


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Of the next request; empty if the client has left."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def client(behave: Behaviour) -> AsyncGenerator[tuple[httpx2.AsyncClient, str], None]:
    """A client, and the URL of a server that behaves so after the head of a request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await _head(reader):
            await behave(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    timeout = httpx2.Timeout(None)
    inner = IsolatingTransport(httpx2.AsyncHTTPTransport())
    async with httpx2.AsyncClient(transport=inner, timeout=timeout, trust_env=False) as http:
        yield http, f"http://{host}:{port}/"
    server.close()


@pytest.fixture
def exchange() -> Exchange:
    exchange = Exchange()
    CURRENT.set(exchange)
    return exchange


@pytest.mark.parametrize(
    ("behave", "problem"),
    [
        (hangs_up, "hung up without a complete answer"),
        (babbles, "hung up without a complete answer"),
        (answers(200, b'{"json', length=100), "hung up without a complete answer"),
        (answers(500, b"<html>"), "answered with HTTP status 500"),
        (answers(401, b'{"error": "invalid_token"}'), "answered with HTTP status 401"),
        (answers(400, ERROR), None),
        (answers(200, b"{}"), None),
    ],
)
async def test_failure_becomes_a_response_and_a_problem(
    exchange: Exchange, behave: Behaviour, problem: str | None
) -> None:
    async with client(behave) as (http, url):
        response = await within(http.post(url, json=REQUEST))
    assert exchange.problem == problem
    assert response.is_success is (problem is None and response.status_code == 200)
    assert not exchange.session_unknown


async def test_nobody_listens(exchange: Exchange) -> None:
    async with client(hangs_up) as (http, url):
        pass
    transport = IsolatingTransport(httpx2.AsyncHTTPTransport())
    async with httpx2.AsyncClient(transport=transport, trust_env=False) as http:
        response = await within(http.post(url, json=REQUEST))
    assert (response.status_code, exchange.problem) == (502, "cannot be reached")


async def test_answer_is_limited(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 100)
    async with client(answers(200, bytes(101))) as (http, url):
        response = await within(http.post(url, json=REQUEST))
    assert (response.status_code, response.content) == (502, b"")
    assert exchange.problem == "gave an answer longer than 100 bytes"


@pytest.mark.parametrize("content_type", [JSON, EVENTS])
@pytest.mark.parametrize("status", [200, 500])
async def test_compressed_answers_are_refused(
    exchange: Exchange, content_type: str, status: int
) -> None:
    """A few kilobytes could become gigabytes."""
    compressed = answers(
        status, gzip.compress(bytes(1_000_000)), f"{content_type}\r\nContent-Encoding: gzip"
    )
    async with client(compressed) as (http, url):
        response = await within(http.post(url, json=REQUEST))
    assert (response.status_code, response.content) == (502, b"")
    assert exchange.problem == "compressed its answer, which it was not asked for"


@pytest.mark.parametrize("session", ["s1", None])
@pytest.mark.parametrize(
    ("status", "body", "unknown"),
    [
        (404, ERROR, True),
        (404, b"", True),
        (400, b"Bad Request: No valid session ID provided", True),
        (400, ERROR, False),
        (500, b"session id", False),
    ],
)
async def test_knows_when_the_session_is_unknown(
    exchange: Exchange, status: int, body: bytes, unknown: bool, session: str | None
) -> None:
    headers = {"mcp-session-id": session} if session else {}
    async with client(answers(status, body)) as (http, url):
        await within(http.post(url, json=REQUEST, headers=headers))
    assert exchange.session_unknown is (unknown and session is not None)


async def test_session_of_a_refused_first_request_is_ended(exchange: Exchange) -> None:
    heads: list[bytes] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(BODY))
        head = b"HTTP/1.1 400 X\r\nmcp-session-id: stillborn\r\ncontent-length: 0\r\n\r\n"
        writer.write(head)
        heads.append(await _head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    async with client(behave) as (http, url):
        headers = {"authorization": "Bearer t0k"}
        response = await within(http.post(url, content=BODY, headers=headers))
    assert response.status_code == 400
    (head,) = heads
    assert head.startswith(b"DELETE / HTTP/1.1\r\n")
    assert b"mcp-session-id: stillborn" in head.lower()
    assert b"authorization: bearer t0k" in head.lower()
    assert b"content-length" not in head.lower()


async def test_deadline_ends_a_silent_request(exchange: Exchange) -> None:
    exchange.deadline = asyncio.get_running_loop().time() + 0.05
    async with client(is_silent) as (http, url):
        response = await within(http.post(url, json=REQUEST))
    assert (response.status_code, exchange.problem) == (502, "did not answer in time")


async def test_deadline_ends_a_stream(exchange: Exchange) -> None:
    exchange.deadline = asyncio.get_running_loop().time() + 0.2
    async with client(begins_a_stream) as (http, url), http.stream("POST", url, json=REQUEST) as r:
        pieces = r.aiter_bytes()
        assert await within(anext(pieces)) == b": hi\n\n"
        with pytest.raises(httpx2.ReadTimeout):
            await within(anext(pieces))
    assert exchange.problem == "did not answer in time"


async def test_giving_up_ends_a_request_that_runs(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_GRACE_SECONDS", 0.0)
    arrived = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await is_silent(reader, writer)

    async with client(behave) as (http, url):
        request = asyncio.create_task(http.post(url, json=REQUEST))
        await within(arrived.wait())
        exchange.give_up()
        assert (await within(request)).status_code == 502


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_control_messages_have_their_own_limit(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(transport, "_CONTROL_SECONDS", 0.05)
    async with client(is_silent) as (http, url):
        response = await within(http.request(method, url, json=NOTIFICATION))
    assert response.status_code == 502
    assert exchange.problem is None


async def test_connection_is_used_again_after_a_stream(exchange: Exchange) -> None:
    connections = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readexactly(len(BODY))
            await answers(200, b"data: 1\n\n", EVENTS)(reader, writer)
            if not await _head(reader):
                return

    async with client(behave) as (http, url):
        for _ in range(3):
            async with http.stream("POST", url, json=REQUEST) as response:
                await within(anext(response.aiter_bytes()))
    assert connections == 1
