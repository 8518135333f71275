"""Real directories, watched by the real library."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pharia_kernel.config.namespaces import (
    ChatSkillEntry,
    FileRegistryConfig,
    InPlaceNamespace,
    OciRegistryConfig,
    SkillEntry,
    TeamOwnedNamespace,
    WatchNamespace,
)
from pharia_kernel.errors import NamespaceMisconfigured, SkillUnavailable
from pharia_kernel.skills import namespaces as module
from pharia_kernel.skills.namespaces import Config, Namespaces
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.types import SkillKind, SkillStatus
from tests.skills_layer.support import Kernel, digest_of, error_of, eventually, kernel

NEVER = 3600.0
"""An interval that shows that a change was noticed without polling."""


@asynccontextmanager
async def following(
    configs: dict[str, Config], interval: float = NEVER
) -> AsyncGenerator[Kernel, None]:
    async with kernel() as k:
        namespaces = Namespaces(configs, k.store, interval=interval)
        await namespaces.start()
        try:
            yield k
        finally:
            await namespaces.close()


def names(k: Kernel) -> list[str]:
    return [str(info.path) for info in k.store.list()]


def status(k: Kernel, path: str) -> SkillStatus | None:
    return next((info.status for info in k.store.list() if str(info.path) == path), None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "skills"
    directory.mkdir()
    return directory


# --- directories ----------------------------------------------------------------------------------


async def test_what_is_there_at_the_start_is_known_after_the_start(directory: Path) -> None:
    (directory / "greet.wasm").write_text("function:greet")
    (directory / "my.skill.wasm").write_text("function:dots")
    (directory / "README.md").write_text("no skill")
    async with following({"dev": WatchNamespace(directory=directory)}) as k:
        assert names(k) == ["dev/greet", "dev/my.skill"]
        assert await k.run("dev/greet") == "function:greet"
        assert await k.run("dev/my.skill") == "function:dots"


async def test_changes_are_noticed_at_once(directory: Path) -> None:
    path = directory / "greet.wasm"
    async with following({"dev": WatchNamespace(directory=directory)}) as k:
        assert names(k) == []
        path.write_text("function:1")
        await eventually(lambda: status(k, "dev/greet") is SkillStatus.READY)
        path.write_text("function:2")
        await eventually(lambda: k.info("dev/greet").digest == digest_of("function:2"))
        path.unlink()
        await eventually(lambda: names(k) == [])


async def test_polling_is_enough(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def awatch(*places: Path, **options: object) -> None:
        raise OSError("inotify limit reached")

    monkeypatch.setattr(module, "awatch", awatch)
    path = directory / "greet.wasm"
    async with following({"dev": WatchNamespace(directory=directory)}, interval=0.01) as k:
        path.write_text("function:1")
        await eventually(lambda: status(k, "dev/greet") is SkillStatus.READY)
        path.write_text("function:2")
        await eventually(lambda: k.info("dev/greet").digest == digest_of("function:2"))
        path.unlink()
        await eventually(lambda: names(k) == [])


async def test_a_missing_directory_invalidates_the_namespace_until_it_appears(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "not" / "yet"
    async with following({"dev": WatchNamespace(directory=directory)}) as k:
        error = await error_of(k.run("dev/greet"))
        assert isinstance(error, NamespaceMisconfigured)
        assert "No such file or directory" in error.detail and str(directory) in error.detail
        assert k.runtime.readiness()["namespaces"]["invalid"] == 1

        directory.parent.mkdir()
        directory.mkdir()
        (directory / "greet.wasm").write_text("function:1")
        await eventually(lambda: status(k, "dev/greet") is SkillStatus.READY)
        assert await k.run("dev/greet") == "function:1"


async def test_a_directory_that_is_replaced_is_watched_again(directory: Path) -> None:
    (directory / "greet.wasm").write_text("function:1")
    async with following({"dev": WatchNamespace(directory=directory)}) as k:
        assert await k.run("dev/greet") == "function:1"
        (directory.parent / directory.name).rename(directory.with_name("old"))
        (directory.parent / directory.name).mkdir()
        (directory / "other.wasm").write_text("function:2")
        await eventually(lambda: names(k) == ["dev/other"])
        (directory / "more.wasm").write_text("function:3")
        await eventually(lambda: names(k) == ["dev/more", "dev/other"])


async def test_a_link_to_a_directory_can_be_switched(tmp_path: Path) -> None:
    for version in "12":
        (tmp_path / version).mkdir()
        (tmp_path / version / "greet.wasm").write_text(f"function:{version}")
    link = tmp_path / "current"
    link.symlink_to("1")
    async with following({"dev": WatchNamespace(directory=link)}, interval=0.05) as k:
        assert await k.run("dev/greet") == "function:1"
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(link)
        await eventually(lambda: k.info("dev/greet").digest == digest_of("function:2"))


async def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with following({"dev": WatchNamespace(directory=tmp_path / "file")}) as k:
        assert "Not a directory" in (await error_of(k.run("dev/greet"))).detail


async def test_one_directory_in_two_namespaces(directory: Path) -> None:
    config = WatchNamespace(directory=directory)
    async with following({"a": config, "b": config}) as k:
        (directory / "greet.wasm").write_text("function:1")
        await eventually(lambda: names(k) == ["a/greet", "b/greet"])
        assert await k.run("a/greet") == await k.run("b/greet") == "function:1"
        assert k.compiler.compiled["function:1"] == 1


# --- lists ----------------------------------------------------------------------------------------


async def test_a_list_names_its_files_exactly(directory: Path) -> None:
    config = InPlaceNamespace(
        skills=[
            SkillEntry(name="my.skill", tag="ignored"),
            SkillEntry(name="missing"),
            ChatSkillEntry(name="chat", version="1", model="m", system_prompt="p"),
        ],
        registry=FileRegistryConfig(path=directory),
    )
    (directory / "my.skill.wasm").write_text("function:dots")
    (directory / "unlisted.wasm").write_text("function:unlisted")
    async with following({"dev": config}) as k:
        assert names(k) == ["dev/chat", "dev/missing", "dev/my.skill"]
        assert await k.run("dev/my.skill") == "function:dots"
        assert isinstance(await error_of(k.run("dev/missing")), SkillUnavailable)
        assert k.info("dev/missing").status is SkillStatus.FAILED
        assert k.info("dev/chat").kind is SkillKind.MESSAGE_STREAM

        (directory / "missing.wasm").write_text("function:there")
        await eventually(lambda: status(k, "dev/missing") is SkillStatus.READY)


# --- what is not supported ------------------------------------------------------------------------


async def test_unsupported_forms_say_so() -> None:
    registry = OciRegistryConfig(registry="r.example", user="u", password="p")  # type: ignore[arg-type]
    configs: dict[str, Config] = {
        "oci": InPlaceNamespace(skills=[], registry=registry),
        "team": TeamOwnedNamespace(config_url="http://x.example/n.toml", registry=registry),
    }
    async with following(configs) as k:
        for namespace in configs:
            error = await error_of(k.run(f"{namespace}/greet"))
            assert isinstance(error, NamespaceMisconfigured)
            assert "does not support yet" in error.detail


async def test_a_directory_that_hangs_does_not_hold_up_the_others(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PASS_LIMIT", 0.05)
    (directory / "greet.wasm").write_text("function:1")
    original = FileRegistry.names

    async def names_of(self: FileRegistry) -> set[str]:
        if self.directory.name == "hanging":
            await asyncio.Event().wait()
        return await original(self)

    monkeypatch.setattr(FileRegistry, "names", names_of)
    configs: dict[str, Config] = {
        "hanging": WatchNamespace(directory=directory.parent / "hanging"),
        "dev": WatchNamespace(directory=directory),
    }
    async with following(configs) as k:
        assert await k.run("dev/greet") == "function:1"
        assert k.runtime.readiness()["namespaces"]["unread"] == 1
        assert not k.runtime.readiness()["skills"]["ready"]
