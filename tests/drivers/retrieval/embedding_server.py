"""llama.cpp's server on a tiny random model, which makes embeddings; in a subprocess."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.drivers.retrieval.support import DEADLINE
from tests.support.tiny_gguf import cached_model

_ROOT = Path(__file__).parents[3]
TOKEN = "embedding-token"
MODEL = "tiny"


@asynccontextmanager
async def running_embedding_server() -> AsyncIterator[str]:
    """The base URL of its OpenAI routes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        __name__,
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout
    try:
        async with asyncio.timeout(DEADLINE):
            address = (await process.stdout.readline()).decode().strip()
            await _healthy(address)
        yield f"{address}/v1"
    finally:
        process.kill()
        await process.wait()


async def _healthy(address: str) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{address}/health") as answer:
                if answer.status == 200:
                    return


def _serve() -> None:
    """Serve on a free loopback port, print the address, end when the standard input is closed."""
    import xllamacpp  # type: ignore[import-untyped]

    params = xllamacpp.CommonParams()
    params.model.path = str(cached_model(_ROOT / ".pytest_cache" / "tiny-llm"))
    params.model_alias = {MODEL}
    params.api_keys = [TOKEN]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    _serve()
