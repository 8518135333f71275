"""Telemetry of requests: the server span, the HTTP metrics, the trace context of the answer.

Semantic conventions for HTTP servers: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pharia_kernel.errors import KernelError
from pharia_kernel.shell.trace import trace_headers
from pharia_kernel.telemetry import metrics, names, tracing
from pharia_kernel.telemetry.tracing import Request, Span

_KEY = "pharia_kernel.exchange"
_CLIENT_CLOSED = 499
"""What proxies log for a client that went away before the answer; nobody gets it."""
_LONGEST = 1024
"""Characters of a URL or a user agent."""
_SECRET = re.compile(
    r"((?:^|&)[^=&]*(?:token|key|secret|password|signature|auth|sig)[^=&]*=)[^&]*", re.IGNORECASE
)


_PORT = re.compile("[0-9]{1,5}")


class Exchange:
    """One request and its answer, as far as they are known."""

    __slots__ = ("error", "headers_at", "route", "status")

    def __init__(self) -> None:
        self.route: str | None = None
        """Template of the path; none if there is no such route."""
        self.status: int | None = None
        self.headers_at = 0.0
        self.error: KernelError | None = None
        """What the client was told."""


def note_route(scope: Scope, template: str) -> None:
    """The request is for this route; placeholders are in braces."""
    if exchange := scope.get(_KEY):
        exchange.route = template


def note_error(scope: Scope, error: KernelError) -> None:
    """The client is told of this error, in the answer or as an event of a stream."""
    if exchange := scope.get(_KEY):
        exchange.error = error


class Observed:
    """ASGI middleware around everything that the kernel serves.

    While traces are exported, the application sees the headers of the server span instead of those
    that the client sent, and hands these on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        exchange = Exchange()
        request = Request(scope["method"], trace_headers(dict(scope["headers"])))
        inner = {**scope, _KEY: exchange}
        own_headers: list[tuple[bytes, bytes]] = []
        if tracing.enabled():
            own_headers = _encoded(request)
            inner["headers"] = [*_without_trace(scope["headers"]), *own_headers]

        async def observed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.headers_at = time.monotonic()
                if own_headers:
                    message = {**message, "headers": [*message.get("headers", ()), *own_headers]}
            await send(message)

        with request:
            try:
                await self._app(inner, receive, observed_send)
            finally:
                self._tell(scope, exchange, request.span, began)

    def _tell(self, scope: Scope, exchange: Exchange, span: Span, began: float) -> None:
        route = exchange.route
        if route:
            seconds = (exchange.headers_at or time.monotonic()) - began
            status = exchange.status or _CLIENT_CLOSED
            metrics.http_request(scope["method"], route, status, seconds)
        if span:
            if route:
                span.rename(f"{scope['method']} {route}")
            _describe(span, scope, exchange)


def _encoded(request: Request) -> list[tuple[bytes, bytes]]:
    headers = request.scope.headers.items()
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]


def _without_trace(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [header for header in headers if header[0] not in (b"traceparent", b"tracestate")]


def _describe(span: Span, scope: Scope, exchange: Exchange) -> None:
    headers = dict(scope["headers"])
    span.set(names.HTTP_METHOD, scope["method"])
    span.set(names.HTTP_ROUTE, exchange.route)
    span.set(names.HTTP_STATUS, exchange.status)
    span.set(names.PROTOCOL_VERSION, scope.get("http_version"))
    span.set(names.URL_SCHEME, scope.get("scheme"))
    span.set(names.URL_PATH, quote(scope["path"], safe="/")[:_LONGEST])
    span.set(names.URL_QUERY, _query(scope.get("query_string", b"")))
    span.set(names.USER_AGENT, _text(headers.get(b"user-agent")))
    host, port = _server(headers.get(b"host", b"").decode("latin-1"), scope.get("server"))
    span.set(names.SERVER_ADDRESS, host)
    span.set(names.SERVER_PORT, port)
    if exchange.status is None:
        span.set(names.ERROR_TYPE, "cancelled")
    if error := exchange.error:
        if error.status >= 500:
            span.fail(error.code, error.title)
        else:
            # The conventions: what the client did wrong is no error of the server.
            span.set(names.ERROR_TYPE, error.code)


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1")[:_LONGEST] if value else None


def _query(query: bytes) -> str | None:
    """Callers put things into URLs that don't belong there."""
    text = _text(query)
    return _SECRET.sub(r"\1REDACTED", text) if text else None


def _server(host: str, server: Any) -> tuple[str | None, int | None]:
    """From the header ``Host``; else where the connection came in."""
    name, separator, port = host.rpartition(":")
    if separator and _PORT.fullmatch(port) and not name.endswith(":"):
        return name.strip("[]"), int(port)
    if host:
        return host.strip("[]"), None
    return tuple(server) if server else (None, None)
