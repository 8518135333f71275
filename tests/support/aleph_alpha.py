"""A small server that speaks the wire format of the Aleph Alpha inference API."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class AlephAlpha:
    url: str = ""
    received: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    """Path, body and `Authorization` of the requests."""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    """Status and JSON to answer with, instead of proper answers."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.received.append((request.path, body, request.headers.get("Authorization")))
        if self.answers:
            status, answer = self.answers.pop(0)
            return web.json_response(answer, status=status)
        if request.path == "/explain":
            return web.json_response(_explanation(body))
        return await _stream(request) if body.get("stream") else web.json_response(_answer(body))


@contextlib.asynccontextmanager
async def running_aleph_alpha() -> AsyncGenerator[AlephAlpha, None]:
    server = AlephAlpha()
    app = web.Application()
    app.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    completion: dict[str, Any] = {"completion": " world", "finish_reason": "maximum_tokens"}
    if body.get("raw_completion"):
        completion["raw_completion"] = " world<|end|>"
    if body.get("tokens"):
        completion["completion_tokens"] = [" wor", "ld"]
        completion["log_probs"] = [{" wor": -0.5, " x": -0.2}, {"ld": None}]
    return {
        "model_version": "1",
        "completions": [completion],
        "num_tokens_prompt_total": 3,
        "num_tokens_generated": 2,
    }


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in (
        {"type": "stream_chunk", "completion": " wor"},
        {"type": "stream_chunk", "completion": "ld"},
        {"type": "stream_summary", "finish_reason": "end_of_text"},
        {
            "type": "completion_summary",
            "num_tokens_prompt_total": 3,
            "num_tokens_generated": 2,
        },
    ):
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


def _explanation(body: dict[str, Any]) -> dict[str, Any]:
    scores = [{"start": 0, "length": len(body["prompt"][0]["data"]), "score": 0.75}]
    items = [{"type": "image", "scores": []}, {"type": "text", "scores": scores}]
    return {"explanations": [{"items": items}]}
