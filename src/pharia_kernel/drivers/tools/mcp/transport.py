"""HTTP under the MCP SDK, such that a failure stays with the request that met it.

The SDK ends the whole session, with all calls in it, when one request meets a broken connection,
and it waits for ever for a server that keeps a connection open without a word. So this transport
answers for the server when the server does not, and limits how long each request lasts. What really
happened it leaves in the ``Exchange`` of the operation.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

import anyio
import httpx2
import msgspec

from pharia_kernel.errors import OutboundRefused

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of one JSON answer, or one event of a stream."""
_CONTROL_SECONDS = 2.0
"""For notifications and for closing a session: the SDK sends nothing else in the meantime."""
_GRACE_SECONDS = 2.0
"""How long a request lives on after nobody waits for its answer, to let it end in order."""
_DRAIN_SECONDS = 0.1
_SESSION_ID = "mcp-session-id"
_OF_THE_BODY = ("content-length", "content-type", "mcp-protocol-version", "transfer-encoding")


@dataclass
class Exchange:
    """One operation of a session: what to send along, and what went wrong below MCP.

    The operation runs with it as ``CURRENT``; the SDK carries that to the tasks that do the HTTP.
    """

    headers: dict[str, str] = field(default_factory=dict)
    """Sent along with the operation's requests."""
    deadline: float = math.inf
    """On the event loop's clock."""
    problem: str | None = None
    """Goes on after "Tool server X": how the server failed to answer."""
    forbidden: str | None = None
    """The same, where the outbound policy was the reason."""
    session_unknown: bool = False
    """The server has forgotten the session, so it did not do what was asked."""
    _scope: anyio.CancelScope | None = None

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self.deadline = min(self.deadline, anyio.current_time() + _GRACE_SECONDS)
        if self._scope is not None:
            self._scope.deadline = self.deadline

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Raises ``httpx2.ReadTimeout`` when the deadline is over."""
        self._scope = scope = anyio.CancelScope(deadline=self.deadline)
        try:
            with scope:
                yield
        finally:
            self._scope = None
        if scope.cancelled_caught:
            raise httpx2.ReadTimeout("the operation's time is over")


CURRENT: ContextVar[Exchange | None] = ContextVar("mcp_exchange", default=None)


class IsolatingTransport(httpx2.AsyncBaseTransport):
    """Answers with status 502 where the connection fails, so that the SDK sees a failed request."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = CURRENT.get() or Exchange()
        if _is_control(request):
            exchange = Exchange(exchange.headers, anyio.current_time() + _CONTROL_SECONDS)
        exchange.problem = exchange.forbidden = None
        request.headers.update(exchange.headers)
        try:
            with exchange.limit():
                response = await self._inner.handle_async_request(request)
                received = await _received(request, response, exchange)
                if received.is_error and _SESSION_ID in received.headers:
                    await self._end_stillborn(request, received.headers[_SESSION_ID])
                return received
        except (httpx2.TransportError, OSError) as error:
            exchange.problem = _describe(error)
            return httpx2.Response(502, request=request)
        except OutboundRefused as error:
            exchange.problem = exchange.forbidden = error.detail
            return httpx2.Response(502, request=request)

    async def _end_stillborn(self, request: httpx2.Request, session: str) -> None:
        """Servers of SDK 1.x open a session for the SDK's first question, although they refuse it
        because there is no session, and would keep it for ever."""
        if _SESSION_ID in request.headers:
            return
        headers = {n: v for n, v in request.headers.items() if n not in _OF_THE_BODY}
        end = httpx2.Request("DELETE", request.url, headers={**headers, _SESSION_ID: session})
        with (
            suppress(httpx2.TransportError, OSError, OutboundRefused),
            anyio.move_on_after(_CONTROL_SECONDS),
        ):
            response = await self._inner.handle_async_request(end)
            await response.aclose()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _received(
    request: httpx2.Request, response: httpx2.Response, exchange: Exchange
) -> httpx2.Response:
    """The response with its body, or with a body that is read as far as the exchange allows."""
    status, stream = response.status_code, response.stream
    if not isinstance(stream, httpx2.AsyncByteStream):
        raise TypeError("an asynchronous transport has asynchronous bodies")
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        # The SDK would inflate it without any limit.
        await stream.aclose()
        exchange.problem = "compressed its answer, which it was not asked for"
        return httpx2.Response(502, request=request)
    if status < 400 and response.headers.get("content-type", "").startswith("text/event-stream"):
        return _with_body(response, _LimitedStream(stream, exchange))
    body = await _read(stream)
    if body is None:
        exchange.problem = f"gave an answer longer than {MAX_ANSWER_BYTES} bytes"
        return httpx2.Response(502, request=request)
    if request.method == "POST" and _SESSION_ID in request.headers:
        exchange.session_unknown = _means_unknown_session(status, body)
    if status >= 400 and not _is_error(body):
        exchange.problem = f"answered with HTTP status {status}"
    return _with_body(response, httpx2.ByteStream(body))


def _with_body(
    response: httpx2.Response, body: httpx2.AsyncByteStream | httpx2.ByteStream
) -> httpx2.Response:
    return httpx2.Response(
        response.status_code,
        headers=response.headers,
        stream=body,
        extensions=response.extensions,
    )


async def _read(stream: httpx2.AsyncByteStream) -> bytes | None:
    """All of it; none if it is too long."""
    body = bytearray()
    try:
        async for piece in stream:
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                return None
    finally:
        await stream.aclose()
    return bytes(body)


class _LimitedStream(httpx2.AsyncByteStream):
    """A stream of events that ends with the exchange."""

    def __init__(self, inner: httpx2.AsyncByteStream, exchange: Exchange) -> None:
        self._inner = inner
        self._pieces = aiter(inner)
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._next()) is not None:
            yield piece

    async def _next(self) -> bytes | None:
        try:
            with self._exchange.limit():
                return await anext(self._pieces, None)
        except (httpx2.TransportError, OSError) as error:
            self._exchange.problem = _describe(error)
            raise

    async def aclose(self) -> None:
        """The SDK closes after the event it waited for. The stream's end is near then, and reaching
        it keeps the connection for the next request."""
        try:
            with anyio.move_on_after(_DRAIN_SECONDS):
                while await anext(self._pieces, None) is not None:
                    pass
        except (httpx2.TransportError, OSError):
            pass
        finally:
            await self._inner.aclose()


# --- what was sent, and what came back ------------------------------------------------------------


class _Sent(msgspec.Struct):
    id: int | str | None = None
    method: str | None = None


class _Error(msgspec.Struct):
    code: int


class _Failure(msgspec.Struct):
    error: _Error


def _is_control(request: httpx2.Request) -> bool:
    """Whether it is neither a JSON-RPC request nor a stream to listen to."""
    if request.method != "POST":
        return request.method != "GET"
    sent = msgspec.json.decode(request.content, type=_Sent)
    return sent.id is None or sent.method is None


def _means_unknown_session(status: int, body: bytes) -> bool:
    """By the protocol; or as earlier SDKs say it, where the text is all there is to go by."""
    return status == 404 or (status == 400 and b"session id" in body.lower())


def _is_error(body: bytes) -> bool:
    """Whether it is a JSON-RPC error, which says more than the status."""
    try:
        msgspec.json.decode(body, type=_Failure)
    except msgspec.MsgspecError:
        return False
    return True


def _describe(error: Exception) -> str:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return "cannot be reached"
    if isinstance(error, httpx2.TimeoutException):
        return "did not answer in time"
    if isinstance(error, httpx2.LocalProtocolError):
        return "cannot be asked: its configured headers are not valid HTTP"
    return "hung up without a complete answer"
