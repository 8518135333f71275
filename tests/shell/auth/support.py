"""A clock that stands still, a scripted IAM service, and settings of authorization."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from pharia_kernel.config.authorization import hash_api_key
from pharia_kernel.config.settings import Settings

GRANTED = '{"permissions": [{"permission": "KernelAccess"}], "other": 1}'
KEY = "pk_" + "k" * 43
OTHER_KEY = "pk_" + "o" * 43

Answer = Callable[[], Awaitable[web.StreamResponse]]


class Clock:
    """Unix seconds, or any others."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Iam:
    """Gives the scripted answers, then ``GRANTED`` to everybody."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, object]] = []
        self.answers: list[Answer] = []
        self.arrived = asyncio.Event()
        app = web.Application()
        app.router.add_post("/check_user", self._check_user)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/"))

    def says(self, status: int, text: str) -> None:
        async def answer() -> web.StreamResponse:
            return web.Response(status=status, text=text, content_type="application/json")

        self.answers.append(answer)

    def resets(self) -> None:
        async def answer() -> web.StreamResponse:
            transport = self.requests[-1][0].transport
            assert transport is not None
            transport.close()
            return web.Response()

        self.answers.append(answer)

    def waits_for(self, gate: asyncio.Event) -> None:
        async def answer() -> web.StreamResponse:
            await gate.wait()
            return web.Response(text=GRANTED, content_type="application/json")

        self.answers.append(answer)

    async def _check_user(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.json()))
        self.arrived.set()
        if not self.answers:
            self.says(200, GRANTED)
        return await self.answers.pop(0)()


def api_keys(**keys: dict[str, Any]) -> dict[str, Any]:
    """Settings with these keys; ``KEY`` is the key of the first, ``OTHER_KEY`` of the second."""
    hashes = (hash_api_key(key) for key in (KEY, OTHER_KEY))
    tables = zip(keys.items(), hashes, strict=False)
    return {name: {"hash": digest, **table} for (name, table), digest in tables}


def settings(**given: Any) -> Settings:
    return Settings(**given)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
