"""Stands before a real registry and injects faults into what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.credentials import CredentialSource

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Upstream:
    """What the registry really answers."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body)


Forward = Callable[[], Awaitable[Upstream]]
Fault = Callable[[web.Request, Forward], Awaitable[web.StreamResponse]]


@dataclass
class _Rule:
    method: str
    part: str
    fault: Fault
    left: float


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""


@dataclass
class RegistryProxy:
    """Forwards to ``target`` (``host:port``, plain HTTP) unless a rule says otherwise."""

    target: str
    host: str = ""
    seen: list[Seen] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    active: int = 0
    most_active: int = 0
    _rules: list[_Rule] = field(default_factory=list)

    def on(self, method: str, part: str, fault: Fault, *, times: float = float("inf")) -> None:
        """The next ``times`` requests with the method whose path holds ``part``."""
        self._rules.append(_Rule(method, part, fault, times))

    def heal(self) -> None:
        self._rules.clear()

    def requests(self, method: str = "", part: str = "") -> list[Seen]:
        return [s for s in self.seen if s.method.startswith(method) and part in s.path]

    def client(self, credentials: CredentialSource | None = None, **options: Any) -> OciClient:
        return OciClient(self.host, credentials, plain_http=True, **options)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.path, headers))
        self.arrived.set()
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            body = await request.read()
            return await self._respond(request, lambda: self._forward(request, body))
        except aiohttp.ClientConnectionError:  # the registry is down
            assert request.transport
            request.transport.abort()
            return web.Response()
        finally:
            self.active -= 1

    async def _respond(self, request: web.Request, forward: Forward) -> web.StreamResponse:
        for rule in self._rules:
            if rule.left > 0 and rule.method == request.method and rule.part in request.path:
                rule.left -= 1
                return await rule.fault(request, forward)
        return (await forward()).response()

    async def _forward(self, request: web.Request, body: bytes) -> Upstream:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                f"http://{self.target}{request.raw_path}",
                headers=headers,
                data=body,
                allow_redirects=False,
            ) as response,
        ):
            kept = {k: v for k, v in response.headers.items() if k.lower() not in _HOP_BY_HOP}
            return Upstream(response.status, kept, await response.read())


@asynccontextmanager
async def running_proxy(target: str) -> AsyncIterator[RegistryProxy]:
    proxy = RegistryProxy(target)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.host = f"127.0.0.1:{runner.addresses[0][1]}"
        yield proxy
    finally:
        await runner.cleanup()


# --- faults --------------------------------------------------------------------------------------


def status(code: int, error: str = "", headers: dict[str, str] | None = None) -> Fault:
    """An error as registries word it."""
    body = {"errors": [{"code": error, "message": "scripted"}]} if error else {}

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        return web.json_response(body, status=code, headers=headers)

    return fault


def hang() -> Fault:
    """No answer at all."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    return fault


def wait_for(event: asyncio.Event) -> Fault:
    """The proper answer, but only after the event."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        await event.wait()
        return (await forward()).response()

    return fault


def reset() -> Fault:
    """The connection breaks instead of an answer."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        return web.Response()

    return fault


def cut_short(length: int, *, then_hang: bool = False) -> Fault:
    """The first bytes of the answer, and then the connection breaks or says no more."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        upstream = await forward()
        response = web.StreamResponse(status=upstream.status, headers=upstream.headers)
        response.content_length = len(upstream.body)
        await response.prepare(request)
        await response.write(upstream.body[:length])
        if then_hang:
            await asyncio.Event().wait()
        assert request.transport
        request.transport.abort()
        return response

    return fault


def in_pieces(size: int, pause: float) -> Fault:
    """The proper answer, slowly."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        upstream = await forward()
        response = web.StreamResponse(status=upstream.status, headers=upstream.headers)
        response.content_length = len(upstream.body)
        await response.prepare(request)
        for start in range(0, len(upstream.body), size):
            await response.write(upstream.body[start : start + size])
            await asyncio.sleep(pause)
        return response

    return fault


def body(change: Callable[[bytes], bytes]) -> Fault:
    """The proper answer with another body."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        upstream = await forward()
        upstream.body = change(upstream.body)
        return upstream.response()

    return fault


def without(*names: str) -> Fault:
    """The proper answer without some headers (lower case)."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        upstream = await forward()
        upstream.headers = {k: v for k, v in upstream.headers.items() if k.lower() not in names}
        return upstream.response()

    return fault


def first(action: Callable[[], Awaitable[object]]) -> Fault:
    """The proper answer, after something else has happened."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        await action()
        return (await forward()).response()

    return fault


def answer(response: Callable[[web.Request], web.Response]) -> Fault:
    """Something else altogether."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        return response(request)

    return fault
