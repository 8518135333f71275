"""A GGUF file in a process of its own."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pharia_kernel.csi.types import (
    CallContext,
    ChatParams,
    ChatRequest,
    CompletionParams,
    CompletionRequest,
    Message,
    MessageEnd,
)
from pharia_kernel.drivers.inference.local import LocalDriver
from pharia_kernel.errors import NotConfigured, UpstreamTimeout, UpstreamUnavailable
from tests.support.tiny_gguf import cached_model

CHAT = ChatRequest(
    "whatever", [Message(role="user", content="Hi")], ChatParams(max_tokens=4, temperature=0.0)
)


@pytest.fixture
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalDriver, None]:
    model = cached_model(tmp_path_factory.getbasetemp() / "tiny-llm")
    made = LocalDriver(model, parallel=2, context=256, threads=1)
    yield made
    await made.close()


def servers() -> list[psutil.Process]:
    """Of drivers in this process: kernels that other tests started may have some, too."""
    return [
        child
        for child in psutil.Process().children()
        if "pharia_kernel.drivers.inference.local_server" in child.cmdline()
    ]


async def test_chat_and_completion(driver: LocalDriver) -> None:
    response = await driver.chat(CHAT, CallContext(), split_reasoning=True)
    assert response.usage.completion > 0
    events = [e async for e in driver.chat_stream(CHAT, CallContext(), split_reasoning=True)]
    assert any(isinstance(event, MessageEnd) for event in events)
    request = CompletionRequest("x", "Say", CompletionParams(max_tokens=2))
    assert (await driver.complete(request, CallContext())).usage.completion > 0


async def test_the_process_has_no_environment_and_needs_the_key(driver: LocalDriver) -> None:
    await driver.chat(CHAT, CallContext(), split_reasoning=True)
    (server,) = servers()
    assert set(server.environ()) <= {"PATH", "LC_CTYPE"}
    assert driver.token not in " ".join(server.cmdline())


async def test_it_is_started_again_after_it_died(driver: LocalDriver) -> None:
    await driver.chat(CHAT, CallContext(), split_reasoning=True)
    (server,) = servers()
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.to_thread(server.wait, 10)
    async with asyncio.timeout(30):
        while True:
            with suppress(UpstreamUnavailable):  # until the supervisor has noticed
                await driver.chat(CHAT, CallContext(), split_reasoning=True)
                break
    assert servers()[0].pid != server.pid


async def test_it_ends_with_the_driver(driver: LocalDriver) -> None:
    await driver.chat(CHAT, CallContext(), split_reasoning=True)
    assert servers()
    await driver.close()
    assert not servers()
    with pytest.raises(NotConfigured):
        await driver.chat(CHAT, CallContext(), split_reasoning=True)


async def test_a_caller_waits_no_longer_than_its_deadline(driver: LocalDriver) -> None:
    with pytest.raises(UpstreamTimeout, match="not loaded"):
        await driver.chat(CHAT, CallContext(deadline=0.0), split_reasoning=True)


def test_a_missing_file_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model file"):
        LocalDriver(tmp_path / "none.gguf")
