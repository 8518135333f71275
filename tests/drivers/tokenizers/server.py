"""A server with the provider's route for tokenizers, which can be slow, broken or strict."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from aiohttp import web

from tests.drivers.tokenizers.tiny import tiny_json

GOOD_TOKENS = ("token", "other-token")


@dataclass
class TokenizerServer:
    bodies: dict[str, bytes] = field(default_factory=lambda: {"tiny": tiny_json()})
    """By name of the model."""
    status: int = 200
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers wait for it."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by model."""
    arrived: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """A client has gone away before its answer came."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the last request."""
    url: str = ""

    def __post_init__(self) -> None:
        self.open.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        model = request.match_info["model"]
        self.asked[model] += 1
        self.headers = dict(request.headers)
        self.arrived.put_nowait(model)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        if self.status != 200:
            return web.json_response({"error": "broken", "code": "X"}, status=self.status)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in GOOD_TOKENS:
            return web.json_response({"error": "who are you?"}, status=401)
        if model not in self.bodies:
            return web.json_response({"error": "no", "code": "UNKNOWN_MODEL"}, status=404)
        return web.Response(body=self.bodies[model], content_type="application/json")


@contextlib.asynccontextmanager
async def running_server() -> AsyncGenerator[TokenizerServer, None]:
    server = TokenizerServer()
    app = web.Application()
    app.router.add_get("/base/models/{model}/tokenizer", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}/base"
    try:
        yield server
    finally:
        server.open.set()
        await runner.cleanup()
