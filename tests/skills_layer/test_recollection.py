"""Kernels that start while a registry is down go on with what served before."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pharia_kernel.errors import RegistryUnavailable, SkillNotFound
from pharia_kernel.skills.deployment import ComponentSource, Pace
from pharia_kernel.skills.recollection import Recollection
from pharia_kernel.skills.registry.base import Snapshot
from pharia_kernel.skills.types import SkillDetail, SkillStatus
from tests.skills_layer.registries import RemoteRegistry
from tests.skills_layer.support import Kernel, digest_of, error_of, eventually, kernel

QUICK = Pace(interval=0.01, first_pause=0.01, longest_pause=0.02)
PLACE = "registry.example.com/team/greet:v1"
ONE, TWO = (Snapshot(digest_of(text), 4, text, text) for text in ("function:1", "function:2"))


@pytest.fixture
def registry() -> RemoteRegistry:
    registry = RemoteRegistry()
    registry.push("greet", "function:1")
    return registry


def recollection(directory: Path, place: str = PLACE, name: str = "greet") -> Recollection:
    return Recollection(directory, "dev", name, place)


def follow(k: Kernel, registry: RemoteRegistry, memory: Recollection) -> None:
    k.store.configure("dev", {"greet": ComponentSource(registry, "greet", recollection=memory)})


@asynccontextmanager
async def life(registry: RemoteRegistry, memory: Recollection) -> AsyncGenerator[Kernel, None]:
    async with kernel(pace=QUICK) as k:
        follow(k, registry, memory)
        yield k


def detail(k: Kernel) -> SkillDetail:
    (found,) = k.store.details("dev")
    return found


async def serve_once(registry: RemoteRegistry, memory: Recollection) -> None:
    async with life(registry, memory) as k:
        assert await k.run("dev/greet") == "function:1"
        await kept(memory, registry)


async def kept(memory: Recollection, registry: RemoteRegistry) -> None:
    now = await registry.snapshot("greet", "latest")
    files = memory.directory.glob
    await eventually(lambda: any(now.digest in f.read_text() for f in files("*.json")))


# --- over a restart ------------------------------------------------------------------------------


async def test_what_served_serves_while_the_registry_is_down(
    registry: RemoteRegistry, tmp_path: Path
) -> None:
    memory = recollection(tmp_path)
    await serve_once(registry, memory)
    registry.fault = RegistryUnavailable("It is down.")
    async with life(registry, memory) as k:
        assert await k.run("dev/greet") == "function:1"
        await eventually(lambda: detail(k).error)
        error = detail(k).error
        assert error
        assert (detail(k).status, error["code"]) == (SkillStatus.READY, "registry_unavailable")
        registry.push("greet", "function:2")
        registry.fault = None
        await eventually(lambda: detail(k).digest == digest_of("function:2"))
        assert detail(k).error is None
        await kept(memory, registry)


async def test_a_registry_that_hangs_is_not_waited_for(
    registry: RemoteRegistry, tmp_path: Path
) -> None:
    memory = recollection(tmp_path)
    await serve_once(registry, memory)
    registry.gate = asyncio.Event()
    async with life(registry, memory) as k:
        assert await k.run("dev/greet") == "function:1"
        assert registry.asking, "the first question is still without an answer"
        registry.push("greet", "function:2")
        registry.gate.set()
        await eventually(lambda: detail(k).digest == digest_of("function:2"))


async def test_the_registry_s_answer_comes_first(registry: RemoteRegistry, tmp_path: Path) -> None:
    """Nothing old serves, not even for a moment, if the registry answers."""
    memory = recollection(tmp_path)
    await serve_once(registry, memory)
    registry.push("greet", "function:2")
    async with life(registry, memory) as k:
        assert await k.run("dev/greet") == "function:2"
        assert [record.digest for record in detail(k).history] == [digest_of("function:2")]


async def test_what_served_from_elsewhere_does_not_count(
    registry: RemoteRegistry, tmp_path: Path
) -> None:
    await serve_once(registry, recollection(tmp_path))
    registry.fault = RegistryUnavailable("It is down.")
    async with life(registry, recollection(tmp_path, "registry.example.com/team/greet:v2")) as k:
        assert isinstance(await error_of(k.run("dev/greet")), RegistryUnavailable)


async def test_a_skill_that_was_removed_is_forgotten(
    registry: RemoteRegistry, tmp_path: Path
) -> None:
    memory = recollection(tmp_path)
    async with life(registry, memory) as k:
        await k.run("dev/greet")
        await kept(memory, registry)
        k.store.configure("dev", {})
        assert isinstance(await error_of(k.run("dev/greet")), SkillNotFound)
        await eventually(lambda: not list(tmp_path.iterdir()))


# --- the file ------------------------------------------------------------------------------------


async def test_keeping_and_recalling(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    memory = recollection(directory)
    assert await memory.recall() is None
    await memory.keep(ONE)
    await memory.keep(TWO)
    assert await memory.recall() == TWO
    assert await recollection(directory, name="gre/et.").recall() is None
    assert await recollection(directory, place="elsewhere").recall() is None
    (file,) = directory.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"place": 1}', b'{"place": "\xff"}', b"\xff" * 200_000]
)
async def test_a_damaged_file_costs_only_the_memory(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    memory = recollection(tmp_path)
    await memory.keep(ONE)
    damage(tmp_path, content)
    assert await memory.recall() is None
    assert "is of no use" in caplog.text
    await memory.keep(TWO)
    assert await memory.recall() == TWO


def damage(directory: Path, content: bytes) -> None:
    (file,) = directory.iterdir()
    file.write_bytes(content)


async def test_a_place_that_can_t_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no directory")
    await recollection(tmp_path / "file" / "state").keep(ONE)
    assert "can't be kept for a restart" in caplog.text
