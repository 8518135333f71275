"""Real files, watched by the real library."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from watchfiles import awatch

from pharia_kernel.skills import watching
from pharia_kernel.skills.watching import Watcher
from tests.skills_layer.support import eventually


class Watched:
    def __init__(self, places: dict[str, Path]) -> None:
        self.places = places
        self.changes: Counter[str] = Counter()
        self.watcher = Watcher(lambda: self.places, lambda key: self.changes.update([key]))

    async def told(self, key: str) -> None:
        """Wait until something is told of the place, and forget it."""
        await eventually(lambda: self.changes[key] > 0)
        del self.changes[key]


@asynccontextmanager
async def watched(**places: Path) -> AsyncGenerator[Watched, None]:
    w = Watched(places)
    task = asyncio.create_task(w.watcher.run())
    try:
        for key in places:
            await w.told(key)
        yield w
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_directory(tmp_path: Path) -> None:
    async with watched(a=tmp_path) as w:
        (tmp_path / "new").write_text("1")
        await w.told("a")
        (tmp_path / "new").unlink()
        await w.told("a")


async def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("1")
    async with watched(a=file) as w:
        (tmp_path / "other").write_text("2")
        (tmp_path / "other").rename(file)
        await w.told("a")
        file.unlink()
        await w.told("a")


async def test_a_file_beside_others_that_change(tmp_path: Path) -> None:
    """Such as a log in the directory of the configuration."""
    file = tmp_path / "file"
    file.write_text("1")
    async with watched(file=file, directory=tmp_path) as w:
        (tmp_path / "log").write_text("1")
        await w.told("directory")
        assert not w.changes["file"]
        file.write_text("22")
        await w.told("file")
        file.unlink()
        await w.told("file")
        w.changes.clear()
        (tmp_path / "log").write_text("22")
        await w.told("directory")
        assert not w.changes["file"]


async def test_a_file_behind_links_that_are_swapped(tmp_path: Path) -> None:
    """As Kubernetes updates mounted configuration."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "file").write_text(version)
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "file").symlink_to("..data/file")
    async with watched(a=tmp_path / "file") as w:
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").replace(tmp_path / "..data")
        await w.told("a")


async def test_a_place_that_comes_later(tmp_path: Path) -> None:
    place = tmp_path / "later" / "still"
    async with watched(a=place) as w:
        place.mkdir(parents=True)
        await w.told("a")
        (place / "file").write_text("1")
        await w.told("a")


async def test_other_places_after_a_refresh(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    async with watched(one=one) as w:
        w.places = {"two": two}
        w.watcher.refresh()
        await w.told("two")
        (one / "file").write_text("1")
        (two / "file").write_text("1")
        await w.told("two")
        assert not w.changes["one"]


async def test_nothing_to_watch_until_a_refresh(tmp_path: Path) -> None:
    async with watched() as w:
        w.places = {"a": tmp_path}
        w.watcher.refresh()
        await w.told("a")


async def test_cancelled_when_watching_has_just_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that runs can't be closed: this once swallowed the cancellation."""
    tasks: list[asyncio.Task[None]] = []

    async def cancels(*args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        tasks[0].cancel()
        async for batch in awatch(*args, **options):
            yield batch

    monkeypatch.setattr(watching, "awatch", cancels)
    watcher = Watcher(lambda: {"a": tmp_path}, lambda _: None)
    tasks.append(asyncio.create_task(watcher.run()))
    done, _ = await asyncio.wait(tasks, timeout=30)
    assert done
    assert tasks[0].cancelled()
