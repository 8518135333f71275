"""Embeddings from a server with OpenAI's routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from pharia_kernel.drivers.inference.credentials import ConfiguredToken
from pharia_kernel.drivers.retrieval.local.embedding import OpenAiEmbedders
from pharia_kernel.errors import BadUpstreamAnswer, UpstreamUnauthorized
from pharia_kernel.resilience import RetryPolicy


class Server:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.failures = 0
        self.answer: Any = None
        self.status = 200
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        assert request.path == "/v1/embeddings"
        assert request.headers["Authorization"] == "Bearer secret"
        body = await request.json()
        assert body["model"] == "m"
        self.batches.append(body["input"])
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        if self.answer is not None or self.status != 200:
            return web.json_response(self.answer, status=self.status)
        data = [
            {"index": i, "embedding": [float(text), 1.0]} for i, text in enumerate(body["input"])
        ]
        return web.json_response({"data": data[::-1]})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/v1/embeddings", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


@pytest.fixture
async def embedders(server: Server) -> AsyncIterator[OpenAiEmbedders]:
    embedders = OpenAiEmbedders(
        server.url,
        ConfiguredToken("secret"),
        batch_size=3,
        retry_policy=RetryPolicy(attempts=2, base=0.001),
    )
    yield embedders
    await embedders.close()


async def test_batches_keep_the_order(server: Server, embedders: OpenAiEmbedders) -> None:
    texts = [str(number) for number in range(8)]
    vectors = await embedders.of("m").embed(texts, "document")
    assert vectors == [[float(number), 1.0] for number in range(8)]
    assert sorted(map(len, server.batches)) == [2, 3, 3]
    assert await embedders.of("m").embed([], "query") == []


async def test_tries_again(server: Server, embedders: OpenAiEmbedders) -> None:
    server.failures = 1
    assert await embedders.of("m").embed(["7"], "query") == [[7.0, 1.0]]


async def test_refused_token(server: Server, embedders: OpenAiEmbedders) -> None:
    server.status = 401
    with pytest.raises(UpstreamUnauthorized):
        await embedders.of("m").embed(["1", "2", "3", "4"], "document")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"data": []},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": ["a"]}]},
    ],
)
async def test_answers_that_make_no_sense(
    server: Server, embedders: OpenAiEmbedders, answer: Any
) -> None:
    server.answer = answer
    with pytest.raises(BadUpstreamAnswer):
        await embedders.of("m").embed(["1"], "document")
