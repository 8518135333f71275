"""How many components stay loaded."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from pharia_kernel.errors import CompileFailed, EngineLost, SkillUnavailable
from pharia_kernel.skills.registry.base import Blob, Snapshot
from pharia_kernel.skills.types import VersionState
from pharia_kernel.skills.versions import (
    SPARE_PLACES,
    ContentChanged,
    Loan,
    Progress,
    Supply,
    Version,
    Versions,
)
from tests.skills_layer.support import PATIENCE, MemoryCompiler, MemoryPool, digest_of, eventually


class Text:
    """A supply of one component; reading waits for the gate, if there is one."""

    def __init__(
        self, text: str, registry: object = "registry", gate: asyncio.Event | None = None
    ) -> None:
        self.text = text
        self.registry = registry
        self.gate = gate
        self.reads = 0

    async def read(self) -> Blob:
        self.reads += 1
        if self.gate:
            await self.gate.wait()
        return Blob(self.text.encode(), Snapshot(digest_of(self.text), len(self.text), None))


class Shelf:
    """Room for two components of 100 bytes."""

    def __init__(self, read_limit: float = PATIENCE) -> None:
        self.compiler = MemoryCompiler(size=100)
        self.pool = MemoryPool(self.compiler)
        self.versions = Versions(self.compiler, self.pool, capacity=200, read_limit=read_limit)

    async def acquire(self, name: str) -> Version:
        return await self.versions.acquire(digest_of(name), Text(name))

    async def lend(self, version: Version) -> Loan:
        return await self.versions.lend(version, Text(self.compiler.texts[version.digest]))

    async def touch(self, version: Version) -> None:
        with await self.lend(version):
            pass


@pytest.fixture
async def shelf() -> AsyncGenerator[Shelf, None]:
    made = Shelf()
    yield made
    await made.versions.close()


A, B, C = "function:a", "function:b", "function:c"


async def test_the_least_recently_used_makes_room(shelf: Shelf) -> None:
    a, b = await shelf.acquire(A), await shelf.acquire(B)
    await shelf.touch(b)
    await shelf.touch(a)
    await shelf.acquire(C)
    assert shelf.pool.loaded == {A, C}

    await shelf.touch(b)
    assert shelf.pool.loaded == {B, C}
    assert shelf.compiler.compiled[B] == 1


async def test_what_runs_is_never_unloaded(shelf: Shelf) -> None:
    a, b = await shelf.acquire(A), await shelf.acquire(B)
    with await shelf.lend(a), await shelf.lend(b):
        c = await shelf.acquire(C)
        with await shelf.lend(c):
            assert shelf.pool.loaded == {A, B, C}
    await eventually(lambda: len(shelf.pool.loaded) == 2)
    assert C in shelf.pool.loaded


async def test_a_component_larger_than_the_cache_stays_while_it_is_the_newest(shelf: Shelf) -> None:
    shelf.compiler.size = 1000
    a = await shelf.acquire(A)
    await shelf.touch(a)
    await shelf.touch(a)
    assert shelf.pool.loads[A] == 1
    await shelf.acquire(B)
    await eventually(lambda: shelf.pool.loaded == {B})


async def test_concurrent_runs_load_an_unloaded_component_once(shelf: Shelf) -> None:
    a = await shelf.acquire(A)
    await shelf.acquire(B)
    await shelf.acquire(C)
    assert A not in shelf.pool.loaded
    shelf.pool.load_gate = asyncio.Event()
    runs = [asyncio.create_task(shelf.touch(a)) for _ in range(5)]
    await eventually(lambda: shelf.pool.loads[A] == 2)
    shelf.pool.load_gate.set()
    await asyncio.gather(*runs)
    assert shelf.pool.loads[A] == 2


async def test_a_lost_artifact_is_compiled_again(shelf: Shelf) -> None:
    a = await shelf.acquire(A)
    await shelf.acquire(B)
    await shelf.acquire(C)
    shelf.compiler.artifacts.clear()
    await shelf.touch(a)
    assert shelf.compiler.compiled[A] == 2


async def test_a_lost_artifact_whose_source_has_changed(shelf: Shelf) -> None:
    a = await shelf.acquire(A)
    await shelf.acquire(B)
    await shelf.acquire(C)
    shelf.compiler.artifacts.clear()
    with pytest.raises(ContentChanged):
        await shelf.versions.lend(a, Text("function:other"))
    assert a.runs == 0


async def test_released_versions_are_forgotten(shelf: Shelf) -> None:
    a = await shelf.acquire(A)
    with await shelf.lend(a):
        shelf.versions.release(a)
        assert shelf.pool.loaded == {A}
    await eventually(lambda: not shelf.pool.loaded)
    await eventually(lambda: not shelf.versions._versions)


async def test_acquiring_what_is_just_being_unloaded(shelf: Shelf) -> None:
    a = await shelf.acquire(A)
    shelf.versions.release(a)
    again = await shelf.acquire(A)
    with await shelf.lend(again) as loan:
        assert loan.artifact.digest == digest_of(A)
        assert shelf.pool.loaded == {A}


async def test_a_failed_load_leaves_nothing_and_can_be_repeated(shelf: Shelf) -> None:
    shelf.pool.load_faults = [EngineLost("died")]
    with pytest.raises(EngineLost):
        await shelf.acquire(A)
    await eventually(lambda: not shelf.versions._versions)
    assert (await shelf.acquire(A)).loaded


async def test_a_cached_artifact_that_does_not_load_is_compiled_again(shelf: Shelf) -> None:
    a = await shelf.acquire(A)
    assert shelf.versions.evict(a)
    await eventually(lambda: not a.loaded)
    shelf.pool.load_faults = [CompileFailed("made for another processor")]

    await shelf.touch(a)

    assert shelf.compiler.compiled[A] == 2
    assert shelf.pool.loaded == {A}


async def test_a_fresh_artifact_that_does_not_load_is_not_compiled_again(shelf: Shelf) -> None:
    shelf.pool.load_faults = [CompileFailed("no luck")]
    with pytest.raises(CompileFailed):
        await shelf.acquire(A)
    assert shelf.compiler.compiled[A] == 1


async def test_cancelling_the_only_waiter_stops_the_compiler(shelf: Shelf) -> None:
    shelf.compiler.gates[A] = asyncio.Event()
    waiter = asyncio.create_task(shelf.acquire(A))
    await eventually(lambda: shelf.compiler.started)
    waiter.cancel()
    await asyncio.wait({waiter})
    await eventually(lambda: shelf.compiler.cancelled == [A])
    await eventually(lambda: not shelf.versions._versions)


async def test_a_waiter_cancelled_while_loading_leaves_no_component_behind(shelf: Shelf) -> None:
    shelf.pool.load_gate = asyncio.Event()
    waiter = asyncio.create_task(shelf.acquire(A))
    await eventually(lambda: shelf.pool.loads[A])
    waiter.cancel()
    await asyncio.wait({waiter})
    shelf.pool.load_gate.set()
    await eventually(lambda: shelf.pool.unloads[A] == 1)
    assert not shelf.versions._versions


async def test_evicting_waits_for_runs(shelf: Shelf) -> None:
    a = await shelf.acquire(A)
    with await shelf.lend(a):
        assert shelf.versions.evict(a)
        assert shelf.pool.loaded == {A}
    await eventually(lambda: not shelf.pool.loaded)
    await shelf.touch(a)
    assert shelf.pool.loaded == {A}


# --- reading --------------------------------------------------------------------------------------


async def test_few_components_are_in_memory_at_once(shelf: Shelf) -> None:
    texts = [Text(f"function:{n}", registry=n) for n in range(10)]
    for text in texts:
        shelf.compiler.gates[text.text] = asyncio.Event()
    waiting = [asyncio.create_task(shelf.versions.acquire(digest_of(t.text), t)) for t in texts]
    most = 0
    for done in range(len(texts)):
        await eventually(lambda: len(shelf.compiler.started) > done)  # noqa: B023 (called at once)
        most = max(most, sum(t.reads for t in texts) - done)
        shelf.compiler.gates[shelf.compiler.started[done]].set()
    await asyncio.gather(*waiting)
    assert most == 1 + SPARE_PLACES


async def test_a_registry_that_hangs_does_not_hold_up_the_others(shelf: Shelf) -> None:
    never = asyncio.Event()
    stuck = [Text(f"function:stuck {n}", registry="hanging", gate=never) for n in range(20)]
    waiting = [asyncio.create_task(shelf.versions.acquire(digest_of(t.text), t)) for t in stuck]
    await eventually(lambda: any(t.reads for t in stuck))
    for n in range(10):
        text = Text(f"function:{n}", registry="well")
        async with asyncio.timeout(PATIENCE):
            await shelf.versions.acquire(digest_of(text.text), text)
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_reading_takes_no_longer_than_it_may() -> None:
    shelf = Shelf(read_limit=0.01)
    stuck = Text(A, gate=asyncio.Event())
    with pytest.raises(SkillUnavailable, match=r"0\.01 s"):
        await shelf.versions.acquire(digest_of(A), stuck)
    await shelf.acquire(A)
    assert shelf.pool.loaded == {A}
    await shelf.versions.close()


async def test_a_time_limit_of_the_registry_itself_is_not_taken_for_ours(shelf: Shelf) -> None:
    class Impatient(Text):
        async def read(self) -> Blob:
            raise TimeoutError("the registry's own")

    with pytest.raises(TimeoutError, match="own"):
        await shelf.versions.acquire(digest_of(A), Impatient(A))


# --- progress -------------------------------------------------------------------------------------


async def progress_of(shelf: Shelf, supply: Supply, digest: str) -> list[Progress]:
    seen: list[Progress] = []
    await shelf.versions.acquire(digest, supply, seen.append)
    return seen


async def test_all_who_wait_see_the_same_progress(shelf: Shelf) -> None:
    gate = shelf.compiler.gates[A] = asyncio.Event()
    waiting = [asyncio.create_task(progress_of(shelf, Text(A), digest_of(A))) for _ in range(2)]
    await eventually(lambda: shelf.compiler.started)
    version = shelf.versions._versions[digest_of(A)]
    await eventually(lambda: version.users == 2)
    assert version.flight
    progress = version.flight.progress
    assert (progress.state, progress.aim) == (VersionState.PULLED, VersionState.COMPILED)
    gate.set()
    assert await asyncio.gather(*waiting) == [[progress], [progress]]
    assert progress.state is VersionState.READY
    assert list(progress.seconds) == [
        VersionState.PULLED,
        VersionState.COMPILED,
        VersionState.READY,
    ]


async def test_what_the_artifact_cache_has_is_only_loaded(shelf: Shelf) -> None:
    await shelf.compiler.compile(digest_of(A), A.encode())
    text = Text(A)
    (progress,) = await progress_of(shelf, text, digest_of(A))
    assert list(progress.seconds) == [VersionState.READY]
    assert text.reads == 0


async def test_what_is_loaded_makes_no_progress(shelf: Shelf) -> None:
    await shelf.acquire(A)
    assert await progress_of(shelf, Text(A), digest_of(A)) == []
