"""Embeddings of the kernel's own model server."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import suppress

import psutil
import pytest

from pharia_kernel.drivers.inference.local import LocalDriver
from pharia_kernel.drivers.retrieval.local.embedding import LocalEmbedders
from pharia_kernel.errors import UpstreamUnavailable
from tests.support.tiny_gguf import cached_model


@pytest.fixture
async def embedders(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[LocalEmbedders, None]:
    model = cached_model(tmp_path_factory.getbasetemp() / "tiny-llm")
    driver = LocalDriver(model, parallel=2, context=256, threads=1, pooling="last")
    made = LocalEmbedders(driver)
    yield made
    await made.close()
    await driver.close()


async def test_texts_become_vectors(embedders: LocalEmbedders) -> None:
    one, same, other = await embedders.of("any").embed(["one", "one", "something else"], "document")
    assert one == pytest.approx(same, abs=1e-4)
    assert len(one) == len(other) > 1
    assert one != other


async def test_the_server_may_come_back_elsewhere(embedders: LocalEmbedders) -> None:
    (before,) = await embedders.of("any").embed(["one"], "query")
    (server,) = (
        child
        for child in psutil.Process().children()
        if "pharia_kernel.drivers.inference.local_server" in child.cmdline()
    )
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.to_thread(server.wait, 10)
    async with asyncio.timeout(60):
        while True:
            with suppress(UpstreamUnavailable):  # until the supervisor has noticed
                (after,) = await embedders.of("any").embed(["one"], "query")
                break
    assert after == pytest.approx(before, abs=1e-4)
