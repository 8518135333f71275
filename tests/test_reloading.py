"""Changes of real files, and a real signal."""

import asyncio
import os
import pty
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pharia_kernel import config
from pharia_kernel.config.settings import Settings
from pharia_kernel.reloading import Configuration, Reloader, on_hangup
from tests.skills_layer.support import eventually

NAMESPACE = '[namespaces.{name}]\ndirectory = "skills"\n'


class Following:
    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self.file = directory / "config.toml"
        self.applied: list[Settings] = []
        self._environ = {"WASMTIME_CACHE_DIR": str(directory)} | environ
        self._directory = directory
        configuration = Configuration(self.load, {"config.toml": self.file})
        self.reloader = Reloader(self.load(), configuration, self._apply)

    def load(self) -> Settings:
        return config.load(self._directory, self._environ)

    async def _apply(self, settings: Settings) -> None:
        self.applied.append(settings)

    def write(self, text: str) -> None:
        """As editors do."""
        (self.file.parent / "config.new").write_text(text)
        (self.file.parent / "config.new").replace(self.file)


@asynccontextmanager
async def following(
    directory: Path, toml: str = "", **environ: str
) -> AsyncGenerator[Following, None]:
    (directory / ".env").touch()
    (directory / "config.toml").write_text(toml)
    f = Following(directory, environ)
    task = asyncio.create_task(f.reloader.run())
    yield f
    task.cancel()
    await asyncio.wait({task})


async def test_namespaces_are_applied(tmp_path: Path) -> None:
    async with following(tmp_path) as f:
        f.write(NAMESPACE.format(name="one"))
        await eventually(lambda: bool(f.applied))
        assert list(f.applied[-1].namespaces) == ["one"]
        f.write("")
        await eventually(lambda: len(f.applied) == 2)
        assert not f.applied[-1].namespaces
        assert f.reloader.health() == {"ready": True, "errors": [], "restart_needed_for": []}


async def test_a_mistake_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with following(tmp_path, NAMESPACE.format(name="one")) as f:
        f.write('[namespaces.one]\ndirectory = 1\nregistry-password = "hunter2"\n')
        await eventually(lambda: bool(f.reloader.health()["errors"]))
        assert "namespaces.one" in f.reloader.health()["errors"][0]
        assert "hunter2" not in caplog.text
        f.write(NAMESPACE.format(name="two"))
        await eventually(lambda: bool(f.applied))
        assert f.reloader.health()["errors"] == []
    assert len(f.applied) == 1
    assert "in order again" in caplog.text


async def test_what_needs_a_restart_is_told_and_not_applied(tmp_path: Path) -> None:
    async with following(tmp_path, "engines = 1\n") as f:
        f.write("engines = 2\n" + NAMESPACE.format(name="one"))
        await eventually(lambda: bool(f.applied))
        assert f.applied[-1].engines == 1
        assert f.reloader.health()["restart_needed_for"] == ["engines"]
        f.write("engines = 1\n" + NAMESPACE.format(name="one"))
        await eventually(lambda: f.reloader.health()["restart_needed_for"] == [])


async def test_the_environment_still_wins(tmp_path: Path) -> None:
    async with following(tmp_path, NAMESPACES__ONE__DIRECTORY="elsewhere") as f:
        f.write(NAMESPACE.format(name="one") + NAMESPACE.format(name="two"))
        await eventually(lambda: bool(f.applied))
        assert str(f.applied[-1].namespaces["one"].directory) == "elsewhere"  # type: ignore[union-attr]


async def test_a_hangup_reloads(tmp_path: Path) -> None:
    told: list[str] = []
    with on_hangup(lambda: told.append("reload"), lambda: told.append("stop")):
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: told == ["reload"])


async def test_a_hangup_because_the_terminal_was_closed_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    ours, theirs = pty.openpty()
    isatty = os.isatty
    monkeypatch.setattr(os, "isatty", lambda _: isatty(theirs))
    with on_hangup(lambda: told.append("reload"), lambda: told.append("stop")):
        os.close(ours)
        os.kill(os.getpid(), signal.SIGHUP)
        await eventually(lambda: told == ["stop"])
    os.close(theirs)
