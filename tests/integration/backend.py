"""Behaviours of the scripted inference backend that only whole kernels need."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.support.faulty_llm import Behaviour, Json


def when(event: asyncio.Event, then: Behaviour) -> Behaviour:
    """Answers once the event has come."""

    async def behave(request: web.Request, body: Json) -> web.StreamResponse:
        await event.wait()
        return await then(request, body)

    return behave
