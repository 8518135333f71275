"""Engine processes that die: what their runs are told, and who is blamed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx

from tests.integration.conftest import NewHome, inference
from tests.integration.load import load
from tests.support.faulty_llm import FaultyLlm, hang, proper
from tests.support.kernel import KernelProcess, problem, until

CHAT = {"model": "m", "text": "Hi"}


def outcome(response: httpx.Response) -> str:
    return "200" if response.status_code == 200 else ":".join(map(str, problem(response)))


async def new_pids(kernel: KernelProcess, old: set[int]) -> set[int]:
    """The engines, once all are ready and none of the old ones is among them."""

    async def replaced() -> set[int]:
        engines = await kernel.engines()
        pids = {engine["pid"] for engine in engines if engine["ready"]}
        return pids if len(pids) == len(engines) and not pids & old else set()

    return await until(replaced, "the engines are replaced")


async def crash(pid: int) -> None:
    """As if native code had a bug. The handler that tells guests' faults from others takes the
    first signal, and leaves those that follow to the system."""

    async def is_gone() -> bool:
        try:
            os.kill(pid, signal.SIGSEGV)
        except ProcessLookupError:
            return True
        return False

    await until(is_gone, "the engine crashes")


async def test_sigkill_under_load(new_home: NewHome, components: dict[str, Path]) -> None:
    home = new_home(engines=2)
    home.deploy("greet", components["greet"])
    async with home.running() as kernel:
        allowed = frozenset({"200", "503:engine_lost"})
        async with load(kernel, workers=8, judge=outcome, only=allowed) as requests:
            for _ in range(4):
                victim, _ = [engine["pid"] for engine in await kernel.engines()]
                os.kill(victim, signal.SIGKILL)
                await new_pids(kernel, {victim})
                await requests.goes_on(50)
        lost = requests.outcomes["503:engine_lost"]
        assert 0 < lost <= 4 * 8, requests.outcomes
        async with load(kernel, workers=8):
            pass
        assert (await kernel.components())["engines"]["quarantined"] == {}


async def test_all_engines_at_once(new_home: NewHome, components: dict[str, Path]) -> None:
    home = new_home(engines=2)
    home.deploy("greet", components["greet"])
    async with home.running() as kernel:
        pids = {engine["pid"] for engine in await kernel.engines()}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        # Requests wait in the queue until an engine is there again.
        answers = await asyncio.gather(*(kernel.run("greet", {"name": "x"}) for _ in range(20)))
        assert {outcome(answer) for answer in answers} <= {"200", "503:engine_lost"}
        await new_pids(kernel, pids)
        assert (await kernel.run("greet", {"name": "x"})).json() == "Hello x"


async def test_the_component_that_crashes_engines_is_quarantined(
    new_home: NewHome, components: dict[str, Path], backend: FaultyLlm
) -> None:
    """What executes is blamed; what waits in the same engine for a model, and what comes later, is
    not."""
    backend.default = hang()
    home = new_home(engines=1, quarantine_after=3, **inference(backend))
    names = ("greet", "chatty", "endless_loop")
    home.deploy_all({name: components[name] for name in names})
    async with home.running() as kernel:
        for _ in range(3):
            backend.arrived.clear()
            waiting = asyncio.create_task(kernel.run("chatty", CHAT))
            await backend.arrived.wait()
            looping = asyncio.create_task(kernel.run("endless_loop"))

            async def both_run() -> bool:
                return await kernel.active_runs() == 2

            await until(both_run, "both runs are in the engine")
            (engine,) = await kernel.engines()
            await crash(engine["pid"])
            for run in (waiting, looping):
                response = await run
                assert problem(response) == (503, "engine_lost")
                assert response.json()["retryable"] is True
            await new_pids(kernel, {engine["pid"]})

        refused = await kernel.run("endless_loop")
        assert problem(refused) == (503, "skill_quarantined")
        assert int(refused.headers["retry-after"]) > 0
        assert (await kernel.run("greet", {"name": "x"})).json() == "Hello x"
        backend.default = proper()
        assert (await kernel.run("chatty", CHAT)).status_code == 200

        detail = await kernel.detail("endless_loop")
        assert detail
        quarantined = (await kernel.components())["engines"]["quarantined"]
        assert list(quarantined) == [detail["digest"]]
