"""Components that misbehave in every way, each next to a healthy one that must not suffer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.integration.conftest import STRICT_RUN_TIMEOUT
from tests.integration.load import load
from tests.skills import hostile
from tests.support.kernel import KernelProcess, problem, temporary_home

RUN_OUTCOMES: dict[str, tuple[int, str]] = {
    "endless_loop": (504, "run_timed_out"),
    "start_loop": (504, "run_timed_out"),
    "realloc_loop": (504, "run_timed_out"),
    "tool_storm": (504, "run_timed_out"),
    "host_call_storm": (504, "run_timed_out"),
    # The guest learns that it gets no more memory; these trap on it.
    "memory_bomb": (500, "skill_crashed"),
    "memory_bomb_touching": (500, "skill_crashed"),
    "gigabyte_string": (500, "skill_crashed"),
    "gigabyte_output": (500, "skill_crashed"),
    "gigabyte_error": (500, "skill_crashed"),
    "many_strings": (500, "skill_crashed"),
    "deep_recursion": (500, "skill_stack_overflow"),
    "string_out_of_bounds": (500, "skill_bug"),
    "output_out_of_bounds": (500, "skill_bug"),
    "realloc_out_of_bounds": (500, "skill_bug"),
    "invalid_utf8": (500, "skill_bug"),
    "invalid_utf8_error": (500, "invalid_output"),
    "invalid_utf8_output": (500, "invalid_output"),
    "not_json": (500, "invalid_output"),
    "empty_output": (500, "invalid_output"),
    "trap": (500, "skill_crashed"),
    "start_trap": (500, "skill_crashed"),
    "realloc_trap": (500, "skill_crashed"),
    "user_error": (400, "skill_failed"),
    "invalid_input": (400, "invalid_input"),
    "bad_signature": (500, "invalid_csi_call"),
    "core_module": (500, "not_a_component"),
    "empty_component": (500, "unsupported_world"),
    "other_world": (500, "unsupported_world"),
    "too_new": (500, "wit_not_supported_yet"),
    "too_new_patch": (500, "wit_not_supported_yet"),
    "too_old": (500, "wit_no_longer_supported"),
    "unsatisfied_import": (500, "unsatisfied_import"),
    "unsatisfied_function": (500, "unsatisfied_import"),
    "bad_export_signature": (500, "compile_failed"),
}

METADATA_OUTCOMES = {
    "metadata_loop": (504, "run_timed_out"),
    "metadata_trap": (500, "skill_crashed"),
    "wrong_schema": (500, "invalid_metadata"),
    "invalid_schema": (500, "invalid_metadata"),
    "metadata_csi": (500, "csi_use_from_metadata"),
}

BEGIN, TEXT = ("message", "begin"), ("message", "append")
STREAM_OUTCOMES: dict[str, tuple[list[tuple[str, str]], str]] = {
    "trap_mid_stream": ([BEGIN, TEXT], "skill_crashed"),
    "stream_error": ([BEGIN, TEXT], "skill_failed"),
    "stream_invalid_input": ([], "invalid_input"),
    "stream_not_json": ([BEGIN, TEXT], "invalid_output"),
    "stream_invalid_utf8": ([BEGIN], "skill_bug"),
    "bad_order_append": ([], "stream_order_violation"),
    "bad_order_begin_twice": ([BEGIN], "stream_order_violation"),
    "bad_order_end": ([], "stream_order_violation"),
    "bad_order_append_after_end": ([BEGIN, ("message", "end")], "stream_order_violation"),
    "bad_order_reasoning": ([], "stream_order_violation"),
}

FINE_STREAMS: dict[str, list[tuple[str, str]]] = {
    "tiny_stream": [BEGIN, TEXT, TEXT, ("message", "end")],
    "two_messages": [BEGIN, TEXT, ("message", "end")] * 2,
    "reasoning_04": [BEGIN, ("reasoning", "reasoning"), TEXT, ("message", "end")],
    "open_message": [BEGIN, TEXT],
    "silent_stream": [],
}


def test_no_component_is_left_out() -> None:
    tested = {*RUN_OUTCOMES, *METADATA_OUTCOMES, *STREAM_OUTCOMES, *FINE_STREAMS}
    assert tested == hostile.SKILLS.keys() - {"tiny_echo", "infinite_stream"}


def kinds(events: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, str]]:
    return [(name, data["type"]) for name, data in events]


@pytest.mark.parametrize("skill", RUN_OUTCOMES)
async def test_functions(strict_kernel: KernelProcess, skill: str) -> None:
    async with load(strict_kernel):
        response = await strict_kernel.run(skill, {"name": "Homer"})
    assert problem(response) == RUN_OUTCOMES[skill]
    assert response.json()["skill"] == f"dev/{skill}"


@pytest.mark.parametrize("skill", METADATA_OUTCOMES)
async def test_metadata(strict_kernel: KernelProcess, skill: str) -> None:
    async with load(strict_kernel):
        response = await strict_kernel.metadata(skill)
        assert problem(response) == METADATA_OUTCOMES[skill]
        # What it says of itself is broken; what it does is not.
        assert (await strict_kernel.run(skill)).json() == "fine"


@pytest.mark.parametrize("skill", STREAM_OUTCOMES)
async def test_streams(strict_kernel: KernelProcess, skill: str) -> None:
    events, code = STREAM_OUTCOMES[skill]
    async with load(strict_kernel):
        stream = await strict_kernel.stream(skill, {})
    assert stream.error["code"] == code
    assert kinds(stream.events[:-1]) == events


@pytest.mark.parametrize("skill", FINE_STREAMS)
async def test_unusual_streams_that_are_fine(strict_kernel: KernelProcess, skill: str) -> None:
    stream = await strict_kernel.stream(skill, {})
    assert kinds(stream.events) == FINE_STREAMS[skill]


async def test_a_stream_without_end(strict_kernel: KernelProcess) -> None:
    async with load(strict_kernel):
        stream = await strict_kernel.stream("infinite_stream", {})
    assert stream.error["code"] == "run_timed_out"
    assert set(kinds(stream.events[1:-1])) == {TEXT}
    assert len(stream.events) > 1000


async def test_all_that_never_end_at_once(strict_kernel: KernelProcess) -> None:
    """Engines share their time, and all hostile runs end at their own deadline."""
    names = [name for name in hostile.NEVER_ENDING if RUN_OUTCOMES.get(name, (0, ""))[0] == 504]
    began = time.monotonic()
    async with load(strict_kernel, workers=2):
        runs = [strict_kernel.run(name) for name in names for _ in range(2)]
        outcomes = {problem(response) for response in await asyncio.gather(*runs)}
    assert outcomes == {(504, "run_timed_out")}
    assert time.monotonic() - began < STRICT_RUN_TIMEOUT + 3
    await strict_kernel.idle()


async def test_nobody_was_hurt(strict_kernel: KernelProcess) -> None:
    """After all the other tests: not one engine died, and nothing is left behind."""
    await strict_kernel.idle()
    engines = (await strict_kernel.components())["engines"]
    assert (engines["restarts"], engines["quarantined"], engines["queued"]) == (0, {}, 0)


# --- with memory to spare -------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def roomy_kernel(components: dict[str, Path]) -> AsyncGenerator[KernelProcess, None]:
    """Guests may have what they need to really hand over a gigabyte."""
    names = ("greet", *(name for name in hostile.GREEDY if name.startswith("gigabyte")))
    with temporary_home(skill_memory_limit="2GiB") as home:
        home.deploy_all({name: components[name] for name in names})
        async with home.running() as kernel:
            yield kernel


@pytest.mark.parametrize("skill", ["gigabyte_string", "gigabyte_output", "gigabyte_error"])
async def test_a_gigabyte_is_not_copied(roomy_kernel: KernelProcess, skill: str) -> None:
    async with load(roomy_kernel):
        response: httpx.Response = await roomy_kernel.run(skill)
    assert problem(response) == (500, "skill_crashed")
    assert "more data" in response.json()["detail"]
