"""A kernel that can do everything the CSI promises, beside its real counterparts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.drivers.retrieval import embedding_server
from tests.drivers.tokenizers.tiny import tiny_json
from tests.integration.csi.support import TOOL_TIMEOUT, TOURS, World, fill_index
from tests.support import mcp_servers
from tests.support.aleph_alpha import AlephAlpha, running_aleph_alpha
from tests.support.kernel import NATIVE_TOOLS, KernelHome, temporary_home
from tests.support.llm import Llm
from tests.support.mcp_servers import ToolServer
from tests.support.tiny_gguf import cached_model

SDK_SKILLS = ("csi_tour", "chatty", "stream_chat")
CONFIG = """
mcp-servers = ["{tools.url}", {{ url = "{slow.url}", timeout = "{timeout}s" }}]

[inference-models]
"tiny" = "openai"
"nickname" = {{ provider = "openai", model = "tiny" }}
"embedded-*" = "embedded"

[inference-providers.embedded]
type = "local"
model-file = "{model}"
context = 512

[inference-providers.embeddings]
type = "openai"
url = "{embeddings}"
token = "{embeddings_token}"

[tokenizers]
tiny = "{tokenizer}"

[document-index]
directory = "index"
embedding-provider = "embeddings"
embedding-model = "{embeddings_model}"
"""
"""Goes on where a ``KernelHome`` ends: in the table of its last namespace."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def aleph_alpha() -> AsyncGenerator[AlephAlpha, None]:
    async with running_aleph_alpha() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tools() -> AsyncGenerator[ToolServer, None]:
    async with mcp_servers.running("crowd", "echo", "fail", "meet", "structured") as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def slow_tools() -> AsyncGenerator[ToolServer, None]:
    async with mcp_servers.running("hang") as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embeddings() -> AsyncGenerator[str, None]:
    async with embedding_server.running_embedding_server() as url:
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(
    components: dict[str, Path],
    llm: Llm,
    aleph_alpha: AlephAlpha,
    tools: ToolServer,
    slow_tools: ToolServer,
    embeddings: str,
) -> AsyncGenerator[World, None]:
    """``tiny`` is llama.cpp's server, ``embedded-*`` a file that the kernel runs itself, and all
    other models are Aleph Alpha's, which wants the token of the caller."""
    settings = {
        "inference_url": aleph_alpha.url,
        "openai_inference__url": llm.url,
        "openai_inference__token": llm.token,
    }
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, **settings) as home:
        _configure(home, tools, slow_tools, embeddings)
        home.deploy_all({name: components[name] for name in (*TOURS.values(), *SDK_SKILLS)})
        async with home.running() as kernel:
            await fill_index(kernel)
            yield World(kernel, aleph_alpha, tools, slow_tools)


def _configure(home: KernelHome, tools: ToolServer, slow: ToolServer, embeddings: str) -> None:
    tokenizer = home.folder / "tokenizer.json"
    tokenizer.write_bytes(tiny_json())
    config = CONFIG.format(
        tools=tools,
        slow=slow,
        timeout=TOOL_TIMEOUT,
        model=cached_model(home.folder),
        embeddings=embeddings,
        embeddings_token=embedding_server.TOKEN,
        embeddings_model=embedding_server.MODEL,
        tokenizer=tokenizer,
    )
    with (home.folder / "config.toml").open("a") as file:
        file.write(config)


@pytest.fixture(autouse=True)
def forgetful(aleph_alpha: AlephAlpha) -> None:
    """What Aleph Alpha received is that of the test."""
    aleph_alpha.received.clear()
