"""Every component that misbehaves ends as it should, and the skill beside it notices nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from pharia_kernel.engine.api import GuestMetadata, Refused, Returned
from pharia_kernel.engine.pool import Pool
from pharia_kernel.errors import (
    InvalidOutput,
    KernelError,
    RunTimedOut,
    SkillBug,
    SkillCrashed,
    SkillStackOverflow,
)
from tests.skills import hostile
from tests.support.components import Artifacts, RecordingHost, eventually, soon, started_pool

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIME_LIMIT = 0.5
"""Seconds that those get who never end."""

INTERNAL, INVALID = Refused("internal", "out of tea"), Refused("invalid-input", "not a number")

OUTCOMES: dict[str, Any] = {
    "tiny_echo": Returned(b'"input"'),
    **dict.fromkeys(["wrong_schema", "invalid_schema"], Returned(b'"fine"')),
    **dict.fromkeys(
        ["tiny_stream", "two_messages", "reasoning_04", "open_message", "silent_stream"],
        Returned(b""),
    ),
    **dict.fromkeys(
        [name for name in hostile.BAD_STREAMS if name.startswith("bad_order")], Returned(b"")
    ),
    "stream_not_json": Returned(b""),
    **dict.fromkeys(hostile.NEVER_ENDING, RunTimedOut),
    # What does not fit into the guest's memory fails inside of it; these guests trap then.
    **dict.fromkeys(hostile.GREEDY, SkillCrashed),
    "deep_recursion": SkillStackOverflow,
    **dict.fromkeys(hostile.MALFORMED, SkillBug),
    **dict.fromkeys(["invalid_utf8_output", "invalid_utf8_error"], InvalidOutput),
    "not_json": Returned(b"{"),
    "empty_output": Returned(b""),
    **dict.fromkeys(["trap", "start_trap", "realloc_trap", "trap_mid_stream"], SkillCrashed),
    "metadata_trap": SkillCrashed,
    "user_error": INTERNAL,
    "stream_error": INTERNAL,
    "invalid_input": INVALID,
    "stream_invalid_input": INVALID,
    "stream_invalid_utf8": SkillBug,
    "metadata_csi": GuestMetadata(None, b"{}", b"{}"),
    "bad_signature": SkillBug,
}
ITEMS = {
    "tiny_stream": 4,
    "two_messages": 6,
    "reasoning_04": 4,
    "trap_mid_stream": 2,
    "stream_error": 2,
    "stream_not_json": 3,
    "stream_invalid_utf8": 1,
    "open_message": 2,
    **dict.fromkeys(["bad_order_append", "bad_order_begin_twice", "bad_order_end"], 3),
    "bad_order_append_after_end": 5,
    "bad_order_reasoning": 3,
}
"""Stream items that arrive; whether their order is right is not the engine's business."""


async def test_every_component_is_covered() -> None:
    unloadable = set(hostile.UNLOADABLE) - {"bad_signature"}
    assert set(OUTCOMES) == set(hostile.SKILLS) - unloadable


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(artifacts: Artifacts) -> AsyncIterator[Pool]:
    pool = await started_pool(artifacts("tiny_echo"))
    yield pool
    await pool.close()


def answer(function: str, arguments: Any) -> Any:
    if function.endswith("list-tools"):
        return []
    return [None for _ in arguments[0]]


async def invoke(pool: Pool, artifacts: Artifacts, name: str, host: RecordingHost) -> Any:
    artifact = artifacts(name)
    await pool.load(artifact)
    seconds = TIME_LIMIT if name in hostile.NEVER_ENDING else 20.0
    if name.startswith("metadata"):
        return await pool.metadata(artifact, host, deadline=soon(seconds))
    return await pool.run(artifact, b'"input"', host, deadline=soon(seconds))


async def stay_healthy(pool: Pool, artifacts: Artifacts, until: asyncio.Event) -> int:
    """Run the healthy skill again and again; how often."""
    count = 0
    while not until.is_set() or not count:
        text = f"healthy {count}".encode()
        outcome = await pool.run(artifacts("tiny_echo"), text, RecordingHost(), deadline=soon())
        assert outcome == Returned(text)
        count += 1
    return count


@pytest.mark.parametrize("name", OUTCOMES)
async def test_it_ends_as_it_should(pool: Pool, artifacts: Artifacts, name: str) -> None:
    expected, host, done = OUTCOMES[name], RecordingHost(answer), asyncio.Event()
    pid = pool.statistics()["engines"][0]["pid"]
    healthy = asyncio.create_task(stay_healthy(pool, artifacts, done))
    try:
        outcome: Any = await invoke(pool, artifacts, name, host)
    except KernelError as error:
        outcome = error
    done.set()
    healthy_runs = await healthy
    if isinstance(expected, type):
        assert type(outcome) is expected, outcome
    else:
        assert outcome == expected
    if name in ITEMS:
        assert len(host.items) == ITEMS[name]
    if name in hostile.NEVER_ENDING:
        assert healthy_runs >= 3, "they share the engine's time"
    await eventually(lambda: pool.active_runs() == 0)
    assert pool.statistics()["engines"][0] == {"pid": pid, "ready": True, "runs": 0}
    assert pool.restarts == 0


async def test_what_the_guests_of_the_greedy_took_is_given_back(
    pool: Pool, artifacts: Artifacts
) -> None:
    """Instances come from a pool of 50: were they not given back, this would fail."""
    artifact = artifacts("memory_bomb")
    await pool.load(artifact)
    for _ in range(60):
        with pytest.raises(SkillCrashed):
            await pool.run(artifact, b"", RecordingHost(), deadline=soon())
