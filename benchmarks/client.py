"""The load: HTTP/1.1 written and read by hand, because a client library would cost too much.

All functions are for a process of their own (``workers.worker``).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import cast

import uvloop
from msgspec import Struct

from benchmarks.processes import Address

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "
_SUCCESS = (200, 201, 204)
_NO_CONTENT = 204
_LAST_CHUNK = b"0\r\n\r\n"
_TIMEOUT = 60.0
_RECEIVE = 1 << 18


class UnexpectedAnswer(Exception):
    """An answer that is not what is measured, such as an error."""


def post(address: Address, path: str, body: bytes) -> bytes:
    """The bytes of a request."""
    return message("POST", address, path, body)


def message(method: str, address: Address, path: str, body: bytes) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {address[0]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Answer:
    """Reads an answer with ``Content-Length``, or without content, as it arrives."""

    __slots__ = ("_body_at", "_buffer", "_end")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._end = 0

    def feed(self, data: bytes) -> bool:
        """Whether the answer is complete."""
        self._buffer += data
        if not self._end:
            head_end = self._buffer.find(_HEAD_END)
            if head_end < 0:
                return False
            self._body_at = head_end + len(_HEAD_END)
            self._end = self._body_at + self._length(head_end)
        return len(self._buffer) >= self._end

    def _length(self, head_end: int) -> int:
        head = bytes(self._buffer[: head_end + 2]).lower()
        at = head.find(_LENGTH)
        if at < 0 and self.status() == _NO_CONTENT:
            return 0
        if at < 0:
            raise UnexpectedAnswer(bytes(self._buffer[:500]).decode(errors="replace"))
        at += len(_LENGTH)
        return int(head[at : head.find(b"\r\n", at)])

    def status(self) -> int:
        return int(self._buffer[9:12])

    def body(self) -> bytes:
        return bytes(self._buffer[self._body_at :])

    def require_success(self) -> None:
        if self.status() not in _SUCCESS:
            raise UnexpectedAnswer(bytes(self._buffer[:1000]).decode(errors="replace"))


def _connect(address: Address) -> socket.socket:
    connection = socket.create_connection(address, timeout=_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exchange(connection: socket.socket, request: bytes) -> _Answer:
    connection.sendall(request)
    answer = _Answer()
    while True:
        data = connection.recv(_RECEIVE)
        if not data:
            raise UnexpectedAnswer("the connection was closed")
        if answer.feed(data):
            return answer


# --- one after the other --------------------------------------------------------------------------


def latencies(address: Address, path: str, body: bytes, count: int) -> list[float]:
    """Seconds of each of ``count`` requests on one connection."""
    request = post(address, path, body)
    durations = []
    with _connect(address) as connection:
        _exchange(connection, request).require_success()  # not measured: opens the connection
        for _ in range(count):
            began = time.perf_counter()
            answer = _exchange(connection, request)
            durations.append(time.perf_counter() - began)
            answer.require_success()
    return durations


def answer(address: Address, path: str, body: bytes, method: str = "POST") -> bytes:
    """The answer's body."""
    with _connect(address) as connection:
        received = _exchange(connection, message(method, address, path, body))
        received.require_success()
        return received.body()


def single(address: Address, path: str, body: bytes) -> float:
    """Seconds of one request on a connection of its own, which is opened before."""
    request = post(address, path, body)
    with _connect(address) as connection:
        began = time.perf_counter()
        answer = _exchange(connection, request)
        seconds = time.perf_counter() - began
    answer.require_success()
    return seconds


class Change(Struct, frozen=True):
    """All times are seconds since the epoch."""

    last_old: float
    """When the last answer of the old version came."""
    first_new: float
    slowest: float
    """Seconds of the slowest request before."""


def wait_for_change(
    address: Address, path: str, body: bytes, new: bytes, *, pause: float, limit: float
) -> Change:
    """Ask again and again until the answer is ``new``. Every answer must be a success."""
    request = post(address, path, body)
    last_old, slowest, deadline = time.time(), 0.0, time.monotonic() + limit
    with _connect(address) as connection:
        while time.monotonic() < deadline:
            began = time.perf_counter()
            received = _exchange(connection, request)
            slowest = max(slowest, time.perf_counter() - began)
            received.require_success()
            if received.body() == new:
                return Change(last_old, time.time(), slowest)
            last_old = time.time()
            time.sleep(pause)
    raise UnexpectedAnswer(f"no new version answered within {limit:.0f} s")


# --- beside something else ------------------------------------------------------------------------


def latencies_beside(
    address: Address, path: str, body: bytes, connections: int, *, until: str
) -> list[float]:
    """Seconds of each request on several connections, until the file ``until`` exists. Every answer
    must be a success.
    """
    request, stop, durations = post(address, path, body), Path(until), list[float]()

    def ask() -> None:
        with _connect(address) as connection:
            while not stop.exists():
                began = time.perf_counter()
                _exchange(connection, request).require_success()
                durations.append(time.perf_counter() - began)

    with ThreadPoolExecutor(connections) as pool:
        for asking in [pool.submit(ask) for _ in range(connections)]:
            asking.result()
    return durations


# --- at the same time -----------------------------------------------------------------------------


class Load(Struct, frozen=True):
    requests: int
    seconds: float
    processor_seconds: float
    """Of this client."""


class _Client(asyncio.Protocol):
    """One connection that sends the next request as soon as one was answered, while there are."""

    def __init__(self, requests: Iterator[bytes], answered: Callable[[], None]):
        self._requests = requests
        self._answered = answered
        self._answer = _Answer()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            if not self._answer.feed(data):
                return
            self._answer.require_success()
        except (UnexpectedAnswer, ValueError) as error:
            self.closed.set_exception(UnexpectedAnswer(str(error)))
            self._transport.abort()
            return
        self._answer = _Answer()
        self._answered()
        self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


class _Crowd:
    """Connections that share the work."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self.answered = 0

    def _count(self) -> None:
        self.answered += 1

    async def run(self, address: Address, size: int) -> None:
        """Until all connections are closed; raises ``UnexpectedAnswer``."""
        loop = asyncio.get_running_loop()

        def client() -> _Client:
            return _Client(self._requests, self._count)

        pairs = await asyncio.gather(
            *(loop.create_connection(client, *address) for _ in range(size))
        )
        async with asyncio.timeout(_TIMEOUT):
            await asyncio.gather(*(client.closed for _, client in pairs))


def throughput(address: Address, path: str, body: bytes, concurrency: int, seconds: float) -> Load:
    """Keep ``concurrency`` requests in flight for so long, and until the last is answered.

    Every connection sends one at least.
    """
    request = post(address, path, body)
    deadline = time.perf_counter() + seconds
    in_time = iter(lambda: time.perf_counter() < deadline, False)
    requests = chain(repeat(request, concurrency), (request for _ in in_time))
    return _measured(requests, address, concurrency)


def burst(address: Address, path: str, body: bytes, count: int) -> Load:
    """``count`` requests at once, one each on as many connections."""
    return _measured(repeat(post(address, path, body), count), address, count)


def deliver(address: Address, requests: list[bytes], concurrency: int) -> Load:
    """Each of the requests once, ``concurrency`` of them at a time."""
    return _measured(iter(requests), address, concurrency)


def _measured(requests: Iterator[bytes], address: Address, size: int) -> Load:
    crowd = _Crowd(requests)
    began, processor = time.perf_counter(), time.process_time()
    uvloop.run(crowd.run(address, size))
    return Load(crowd.answered, time.perf_counter() - began, time.process_time() - processor)


_parked: list[socket.socket] = []
"""Of this process."""


def park(address: Address, path: str, body: bytes, count: int) -> None:
    """Send ``count`` requests whose answers nobody reads."""
    request = post(address, path, body)
    for _ in range(count):
        connection = _connect(address)
        _parked.append(connection)
        connection.sendall(request)


def leave() -> None:
    """Close the connections of ``park``."""
    while _parked:
        _parked.pop().close()


# --- streams --------------------------------------------------------------------------------------


def first_tokens(address: Address, path: str, body: bytes, token: bytes, count: int) -> list[float]:
    """Seconds from each of ``count`` requests to the first ``token`` in its answer."""
    request = post(address, path, body)
    delays = []
    with _connect(address) as connection:
        for _ in range(count + 1):
            began = time.perf_counter()
            connection.sendall(request)
            delays.append(_until(connection, token) - began)
    return delays[1:]  # the first one opens connections


def _until(connection: socket.socket, token: bytes) -> float:
    """Point in time of ``token``; reads the chunked answer to its end."""
    received = bytearray()
    found = 0.0
    while not received.endswith(_LAST_CHUNK):
        data = connection.recv(_RECEIVE)
        now = time.perf_counter()
        if not data:
            raise UnexpectedAnswer("the connection was closed")
        received += data
        if not found and token in received:
            found = now
    if not found:
        raise UnexpectedAnswer(received[:1000].decode(errors="replace"))
    return found


class Streams(Struct, frozen=True):
    tokens: int
    seconds: float
    """From the first token of any stream to the last of all."""


def stream_rate(
    address: Address, path: str, body: bytes, token: bytes, concurrency: int
) -> Streams:
    """Read so many streams at the same time; every occurrence of ``token`` counts."""
    return uvloop.run(_stream_rate(address, post(address, path, body), token, concurrency))


async def _stream_rate(address: Address, request: bytes, token: bytes, concurrency: int) -> Streams:
    results = await asyncio.gather(
        *(_read_stream(address, request, token) for _ in range(concurrency))
    )
    return Streams(
        sum(tokens for tokens, _, _ in results),
        max(end for _, _, end in results) - min(begin for _, begin, _ in results),
    )


async def _read_stream(address: Address, request: bytes, token: bytes) -> tuple[int, float, float]:
    reader, writer = await asyncio.open_connection(*address, limit=1 << 22)
    try:
        writer.write(request)
        received, begin = bytearray(), 0.0
        async with asyncio.timeout(_TIMEOUT):
            while not received.endswith(_LAST_CHUNK):
                data = await reader.read(_RECEIVE)
                if not data:
                    raise UnexpectedAnswer("the connection was closed")
                received += data
                begin = begin or (time.perf_counter() if token in received else 0.0)
        end = time.perf_counter()
    finally:
        writer.close()
    if not begin:
        raise UnexpectedAnswer(received[:1000].decode(errors="replace"))
    return received.count(token), begin, end
