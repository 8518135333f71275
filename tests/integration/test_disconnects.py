"""Clients that hang up: what they asked for ends, in the engine and at the backend."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.support.faulty_llm import FaultyLlm, chunk, endless_stream, hang, sse, stream_then_hang
from tests.support.kernel import PATIENCE, KernelProcess, until

RUN = {"model": "m", "text": "Hi"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
FIRST = sse(chunk({"role": "assistant", "content": "Hel"}))
MORE = sse(chunk({"content": "lo" * 100}))


async def hang_up(request: asyncio.Task[object]) -> None:
    """Cancelling a request of the client closes its connection."""
    request.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await request


async def running(kernel: KernelProcess, count: int) -> None:
    async def so_many() -> bool:
        return await kernel.active_runs() == count

    await until(so_many, f"{count} runs are in the engines")


async def test_in_the_middle_of_a_chat(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.will(hang())
    request = asyncio.create_task(kernel.run("chatty", RUN))
    await asyncio.wait_for(backend.arrived.wait(), PATIENCE)
    await running(kernel, 1)
    await hang_up(request)
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
    await running(kernel, 0)
    assert (await kernel.components())["engines"]["restarts"] == 0


@pytest.mark.parametrize("skill", ["spin", "sleeper", "tool_storm"])
async def test_in_the_middle_of_a_computation(kernel: KernelProcess, skill: str) -> None:
    request = asyncio.create_task(kernel.run(skill, {"seconds": 600}))
    await running(kernel, 1)
    await hang_up(request)
    await running(kernel, 0)


@pytest.mark.parametrize("skill", ["stream_chat", "stream_05", "test-beta/tell_me_a_joke"])
async def test_in_the_middle_of_a_stream(
    kernel: KernelProcess, backend: FaultyLlm, skill: str
) -> None:
    backend.will(stream_then_hang(FIRST))
    async with kernel.open_stream(skill, CHAT) as live:
        assert await live.next() == ("message", {"type": "begin"})
        assert await live.next() == ("message", {"type": "append", "text": "Hel"})
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
    await running(kernel, 0)


async def test_before_a_stream_has_its_first_event(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    backend.will(hang())
    async with kernel.open_stream("stream_chat", CHAT):
        await asyncio.wait_for(backend.arrived.wait(), PATIENCE)
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
    await running(kernel, 0)


@pytest.mark.parametrize("skill", ["stream_chat", "stream_05"])
async def test_in_the_middle_of_a_flood(
    kernel: KernelProcess, backend: FaultyLlm, skill: str
) -> None:
    """The client has stopped to read, so everything up to the backend is full when it leaves."""
    backend.will(endless_stream(MORE))
    async with kernel.open_stream(skill, CHAT) as live:
        for _ in range(3):
            await live.next()
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
    await running(kernel, 0)


async def test_a_guest_that_writes_without_end(kernel: KernelProcess) -> None:
    async with kernel.open_stream("infinite_stream") as live:
        assert await live.next() == ("message", {"type": "begin"})
        assert (await live.next())[1]["text"] == "text"
    await running(kernel, 0)


async def test_many_at_once(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.default = hang()
    requests = [asyncio.create_task(kernel.run("chatty", RUN)) for _ in range(40)]
    await running(kernel, 40)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    await running(kernel, 0)

    async def backend_is_idle() -> bool:
        return backend.active == 0

    await until(backend_is_idle, "all requests to the backend are gone")
    assert (await kernel.run("greet", {"name": "x"})).json() == "Hello x"


async def test_leaving_a_stream_unread_does_not_leak(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    """A skill that drops a chat stream after its first event ends the request to the backend."""
    backend.will(stream_then_hang(FIRST))
    response = await kernel.run("csi_tour", {"steps": ["chat_stream_unread"]})
    assert response.json() == [{"role": "assistant"}]
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
