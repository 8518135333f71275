"""The pool with real processes that split texts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import psutil
import pytest
import uvloop

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.splitting import Splitters
from pharia_kernel.errors import CallTooExpensive, ShuttingDown
from tests.drivers.workers.support import ENDLESS, gone, split, until, working

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
async def splitters() -> AsyncGenerator[Splitters, None]:
    splitters = Splitters(1)
    yield splitters
    await splitters.close()


async def test_a_caller_that_leaves_ends_the_work(splitters: Splitters) -> None:
    caller = asyncio.create_task(split(splitters, ENDLESS))
    process = await working(splitters.pool)
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    await asyncio.to_thread(psutil.wait_procs, [process], 10)
    assert gone(process)
    assert await split(splitters, "hello") == [(0, 0, 5)]


async def leave_while_processes_start() -> None:
    splitters = Splitters(1)
    for steps in range(20):
        caller = asyncio.create_task(split(splitters, "hello"))
        for _ in range(steps):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
    assert await split(splitters, "hello") == [(0, 0, 5)]
    await splitters.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_caller_that_leaves_while_the_process_starts_leaves_nothing_behind(run: Run) -> None:
    children = set(psutil.Process().children())
    run(leave_while_processes_start())
    new = set(psutil.Process().children()) - children
    _, alive = psutil.wait_procs(list(new), 10)
    assert not [process for process in alive if not gone(process)]


async def test_work_that_takes_too_long_is_ended() -> None:
    splitters = Splitters(1, time_limit=0.5)
    with pytest.raises(CallTooExpensive, match=r"0\.5 s"):
        await split(splitters, ENDLESS)
    assert not splitters.pool.pids
    await splitters.close()


async def test_work_ends_at_the_callers_deadline(splitters: Splitters) -> None:
    with pytest.raises(CallTooExpensive):
        await split(splitters, ENDLESS, context=CallContext(deadline=time.monotonic() + 0.5))
    assert not splitters.pool.pids


async def test_memory_is_limited() -> None:
    splitters = Splitters(1, memory_limit=400 << 20)
    with pytest.raises(CallTooExpensive, match="bytes of memory"):
        await split(splitters, "x\n" * 100_000_000)
    assert await split(splitters, "hello") == [(0, 0, 5)]
    await splitters.close()


async def test_a_process_that_died_idle_is_replaced(splitters: Splitters) -> None:
    await split(splitters, "hello")
    process = psutil.Process(*splitters.pool.pids)
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: not process.is_running())
    assert await split(splitters, "hello") == [(0, 0, 5)]


async def test_closing_ends_what_is_going_on() -> None:
    splitters = Splitters(1)
    running, waiting = (asyncio.create_task(split(splitters, ENDLESS)) for _ in range(2))
    process = await working(splitters.pool)
    await splitters.close()
    for caller in (running, waiting):
        with pytest.raises(ShuttingDown):
            await caller
    assert gone(process)


async def test_one_tenant_does_not_wait_for_all_the_texts_of_another(splitters: Splitters) -> None:
    order: list[str] = []

    async def one(tenant: str) -> None:
        await split(splitters, "hello", context=CallContext(skill=tenant))
        order.append(tenant)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(one("many"))
        await asyncio.sleep(0)
        group.create_task(one("few"))
    assert order.index("few") < 3


async def test_the_process_sees_nothing_of_the_kernels_environment(
    splitters: Splitters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_INFERENCE__TOKEN", "secret")
    await split(splitters, "hello")
    environment = psutil.Process(*splitters.pool.pids).environ()
    assert environment["TOKENIZERS_PARALLELISM"] == "false"
    assert "OPENAI_INFERENCE__TOKEN" not in environment
