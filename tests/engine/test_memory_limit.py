"""A limit of one skill, below that of all skills."""

from __future__ import annotations

import pytest
import wasmtime

from pharia_kernel.engine.api import Returned
from pharia_kernel.errors import SkillOutOfMemory
from tests.skills import hostile
from tests.support.components import MIB, Artifacts, NewPool, RecordingHost, soon

PAGES = 8 * MIB >> 16
GROWING = hostile.function_skill(
    f"""(if (result i32) (i32.lt_s (memory.grow (i32.const {PAGES})) (i32.const 0))
      (then (call $ok (i32.const {hostile.TEXT}) (i32.const 4)))
      (else (call $ok (i32.const {hostile.TEXT + 4}) (i32.const 5))))""",
    text=b"fullgrown",
)
"""Wants 8 MiB more, and says whether it got them."""


@pytest.mark.parametrize("pooling", [True, False])
async def test_a_guest_grows_up_to_its_own_limit(
    new_pool: NewPool, artifacts: Artifacts, pooling: bool
) -> None:
    growing = artifacts.of(bytes(wasmtime.wat2wasm(GROWING)))
    pool = await new_pool(growing, memory_limit=16 * MIB, pooling=pooling)

    async def run(limit: int | None) -> object:
        return await pool.run(growing, b"1", RecordingHost(), deadline=soon(), memory_limit=limit)

    assert await run(4 * MIB) == Returned(b"full")
    assert await run(12 * MIB) == Returned(b"grown")
    assert await run(None) == Returned(b"grown")
    assert await run(1024 * MIB) == Returned(b"grown"), "the lower one counts, and suffices"


async def test_the_limit_for_all_skills_can_not_be_raised(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    growing = artifacts.of(bytes(wasmtime.wat2wasm(GROWING)))
    pool = await new_pool(growing, memory_limit=4 * MIB)
    host = RecordingHost()
    outcome = await pool.run(growing, b"1", host, deadline=soon(), memory_limit=64 * MIB)
    assert outcome == Returned(b"full")


@pytest.mark.parametrize("pooling", [True, False])
async def test_a_limit_that_does_not_suffice_to_begin_names_its_setting(
    new_pool: NewPool, artifacts: Artifacts, pooling: bool
) -> None:
    greet = artifacts("greet")
    pool = await new_pool(greet, memory_limit=256 * MIB, pooling=pooling)
    body = b'{"name": "Homer"}'
    with pytest.raises(SkillOutOfMemory, match=r"limit of 1 MiB \(`memory-limit`\)"):
        await pool.run(greet, body, RecordingHost(), deadline=soon(), memory_limit=MIB)
    outcome = await pool.run(greet, body, RecordingHost(), deadline=soon())
    assert outcome == Returned(b'"Hello Homer"')
