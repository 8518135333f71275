"""Real files and directories, watched by the real library."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from pharia_kernel.config.namespaces import (
    ChatSkillEntry,
    InPlaceNamespace,
    SkillEntry,
    WatchNamespace,
)
from pharia_kernel.config.registries import FileRegistryConfig
from pharia_kernel.errors import NamespaceMisconfigured, SkillUnavailable
from pharia_kernel.skills import watching
from pharia_kernel.skills.namespaces import Config, namespaces
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.types import (
    NamespaceState,
    NamespaceStatus,
    SkillKind,
    SkillSettings,
    SkillStatus,
)
from tests.skills_layer.support import digest_of, error_of, eventually, parse

from .support import GOOD, OFTEN, Following, following, team

READY = SkillStatus.READY


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "skills"
    directory.mkdir()
    return directory


def serves(f: Following, path: str, text: str) -> bool:
    return f.skill(path) is READY and f.kernel.info(path).digest == digest_of(text)


def move(directory: Path, name: str) -> None:
    directory.rename(directory.with_name(name))


# --- directories ----------------------------------------------------------------------------------


async def test_what_is_there_at_the_start_is_known_after_the_start(directory: Path) -> None:
    (directory / "greet.wasm").write_text("function:greet")
    (directory / "my.skill.wasm").write_text("function:dots")
    (directory / "README.md").write_text("no skill")
    config = WatchNamespace(directory=directory, native_tools=["add"])
    async with following({"dev": config}) as f:
        assert f.names() == ["dev/greet", "dev/my.skill"]
        assert await f.kernel.run("dev/greet") == "function:greet"
        assert await f.kernel.run("dev/my.skill") == "function:dots"
        assert f.tools.native["dev"] == ["add"]
        status = f.status("dev")
        assert (status.state, status.generation) == (NamespaceState.OK, 1)
        assert (status.form, status.source) == ("directory", str(directory))
        assert status.last_success
        assert status.last_attempt
        assert status.error is None
        # The watcher, which has just begun to watch, may have begun another attempt.
        await eventually(lambda: is_settled(f.status("dev")))


def is_settled(status: NamespaceStatus) -> bool:
    assert status.last_attempt
    assert status.last_success
    return status.last_attempt <= status.last_success


async def test_changes_are_noticed_at_once(directory: Path) -> None:
    path = directory / "greet.wasm"
    async with following({"dev": WatchNamespace(directory=directory)}) as f:
        assert f.names() == []
        path.write_text("function:1")
        await eventually(lambda: f.skill("dev/greet") is READY)
        path.write_text("function:2")
        await eventually(lambda: serves(f, "dev/greet", "function:2"))
        path.unlink()
        await eventually(lambda: f.names() == [])


async def test_polling_is_enough(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def awatch(*places: Path, **options: object) -> None:
        raise OSError("inotify limit reached")

    monkeypatch.setattr(watching, "awatch", awatch)
    path = directory / "greet.wasm"
    async with following({"dev": WatchNamespace(directory=directory)}, OFTEN) as f:
        path.write_text("function:1")
        await eventually(lambda: f.skill("dev/greet") is READY)
        path.write_text("function:2")
        await eventually(lambda: serves(f, "dev/greet", "function:2"))
        path.unlink()
        await eventually(lambda: f.names() == [])


async def test_a_namespace_can_have_its_own_interval(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching.Watcher, "run", asyncio.Event().wait)
    config = WatchNamespace(directory=directory, update_interval=OFTEN)
    async with following({"dev": config, "slow": WatchNamespace(directory=directory)}) as f:
        (directory / "greet.wasm").write_text("function:1")
        await eventually(lambda: f.names() == ["dev/greet"])
        f.namespaces.poll("slow")
        f.namespaces.poll("unknown")
        await eventually(lambda: f.names() == ["dev/greet", "slow/greet"])
        pause = f.status("slow").next_attempt
        assert pause
        assert pause > (f.status("dev").next_attempt or 0) + 60


async def test_a_missing_directory_is_an_error_until_it_appears(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "yet"
    async with following({"dev": WatchNamespace(directory=directory)}) as f:
        error = await error_of(f.kernel.run("dev/greet"))
        assert isinstance(error, NamespaceMisconfigured)
        assert "No such file or directory" in error.detail
        assert str(directory) in error.detail
        assert f.state("dev") is NamespaceState.BROKEN
        assert f.error("dev")["causes"] == ["No such file or directory"]
        assert f.kernel.runtime.readiness()["namespaces"]["invalid"] == 1

        directory.parent.mkdir()
        directory.mkdir()
        (directory / "greet.wasm").write_text("function:1")
        await eventually(lambda: f.skill("dev/greet") is READY)
        assert await f.kernel.run("dev/greet") == "function:1"
        assert f.state("dev") is NamespaceState.OK


async def test_a_directory_that_disappears_leaves_its_skills(directory: Path) -> None:
    (directory / "greet.wasm").write_text("function:1")
    async with following({"dev": WatchNamespace(directory=directory)}, OFTEN) as f:
        assert await f.kernel.run("dev/greet") == "function:1"
        move(directory, "elsewhere")
        await eventually(lambda: f.state("dev") is NamespaceState.STALE)
        assert await f.kernel.run("dev/greet") == "function:1"
        move(directory.with_name("elsewhere"), directory.name)
        await eventually(lambda: f.state("dev") is NamespaceState.OK)
        assert f.status("dev").generation == 1


async def test_the_original_unloads(directory: Path) -> None:
    (directory / "greet.wasm").write_text("function:1")
    config = WatchNamespace(directory=directory, native_tools=["add"])
    async with following({"dev": config}, OFTEN, unload_broken=True) as f:
        assert await f.kernel.run("dev/greet") == "function:1"
        move(directory, "elsewhere")
        await eventually(lambda: f.state("dev") is NamespaceState.BROKEN)
        assert isinstance(await error_of(f.kernel.run("dev/greet")), NamespaceMisconfigured)
        assert f.tools.native["dev"] == []
        move(directory.with_name("elsewhere"), directory.name)
        await eventually(lambda: f.state("dev") is NamespaceState.OK)
        assert await f.kernel.run("dev/greet") == "function:1"
        assert f.tools.native["dev"] == ["add"]


async def test_a_directory_that_is_replaced_is_watched_again(directory: Path) -> None:
    (directory / "greet.wasm").write_text("function:1")
    async with following({"dev": WatchNamespace(directory=directory)}) as f:
        assert await f.kernel.run("dev/greet") == "function:1"
        (directory.parent / directory.name).rename(directory.with_name("old"))
        (directory.parent / directory.name).mkdir()
        (directory / "other.wasm").write_text("function:2")
        await eventually(lambda: f.names() == ["dev/other"])
        (directory / "more.wasm").write_text("function:3")
        await eventually(lambda: f.names() == ["dev/more", "dev/other"])


async def test_a_link_to_a_directory_can_be_switched(tmp_path: Path) -> None:
    for version in "12":
        (tmp_path / version).mkdir()
        (tmp_path / version / "greet.wasm").write_text(f"function:{version}")
    link = tmp_path / "current"
    link.symlink_to("1")
    async with following({"dev": WatchNamespace(directory=link)}, 0.05) as f:
        assert await f.kernel.run("dev/greet") == "function:1"
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(link)
        await eventually(lambda: serves(f, "dev/greet", "function:2"))


async def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with following({"dev": WatchNamespace(directory=tmp_path / "file")}) as f:
        assert "Not a directory" in (await error_of(f.kernel.run("dev/greet"))).detail


async def test_one_directory_in_two_namespaces(directory: Path) -> None:
    config = WatchNamespace(directory=directory)
    async with following({"a": config, "b": config}) as f:
        (directory / "greet.wasm").write_text("function:1")
        await eventually(lambda: f.names() == ["a/greet", "b/greet"])
        assert await f.kernel.run("a/greet") == await f.kernel.run("b/greet") == "function:1"
        assert f.kernel.compiler.compiled["function:1"] == 1


async def test_a_directory_that_hangs_does_not_hold_up_the_others(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "FIRST_PASS_LIMIT", 0.05)
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
    async with following(configs) as f:
        await eventually(lambda: f.skill("dev/greet") is READY)
        assert await f.kernel.run("dev/greet") == "function:1"
        assert f.state("hanging") is NamespaceState.UNREAD
        assert f.kernel.runtime.readiness()["namespaces"]["unread"] == 1


async def test_a_bug_does_not_end_the_following(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def names_of(self: FileRegistry) -> set[str]:
        raise AssertionError("a bug")

    (directory / "greet.wasm").write_text("function:1")
    with monkeypatch.context() as patch:
        patch.setattr(FileRegistry, "names", names_of)
        async with following({"dev": WatchNamespace(directory=directory)}, OFTEN) as f:
            assert f.error("dev")["code"] == "namespace_unavailable"
            assert "a bug" not in str(f.error("dev"))
            patch.undo()
            await eventually(lambda: f.skill("dev/greet") is READY)
    assert sum(record.exc_info is not None for record in caplog.records) == 1


# --- lists ----------------------------------------------------------------------------------------


async def test_a_list_names_its_files_exactly(directory: Path) -> None:
    config = InPlaceNamespace(
        skills=[
            SkillEntry(name="my.skill", tag="ignored", max_runs=2, allowed_tools=["add"]),
            SkillEntry(name="missing"),
            ChatSkillEntry(name="chat", version="1", model="m", system_prompt="p"),
        ],
        registry=FileRegistryConfig(path=directory),
        native_tools=["add"],
    )
    (directory / "my.skill.wasm").write_text("function:dots")
    (directory / "unlisted.wasm").write_text("function:unlisted")
    async with following({"dev": config}) as f:
        assert f.names() == ["dev/chat", "dev/missing", "dev/my.skill"]
        assert await f.kernel.run("dev/my.skill") == "function:dots"
        assert isinstance(await error_of(f.kernel.run("dev/missing")), SkillUnavailable)
        assert f.skill("dev/missing") is SkillStatus.FAILED
        assert f.kernel.info("dev/chat").kind is SkillKind.MESSAGE_STREAM
        settings = f.kernel.store.settings(parse("dev/my.skill"))
        assert settings == SkillSettings(max_runs=2, allowed_tools=("add",))
        assert f.tools.native["dev"] == ["add"]
        assert (f.status("dev").form, f.state("dev")) == ("skills", NamespaceState.OK)

        (directory / "missing.wasm").write_text("function:there")
        await eventually(lambda: f.skill("dev/missing") is READY)


# --- files ----------------------------------------------------------------------------------------


def replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


async def test_a_file_is_followed(
    tmp_path: Path, components: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "team.toml"
    file.write_text(GOOD)
    async with following({"team": team("file://team.toml", components)}) as f:
        assert await f.kernel.run("team/greet") == "function:greet"
        assert f.status("team").source == "file://team.toml"

        replace(file, 'skills = ["greet", "more"]\nnative-tools = ["add"]\nnotes = ""')
        await eventually(lambda: f.names() == ["team/greet", "team/more"])
        assert f.tools.native["team"] == ["add"]
        assert f.status("team").generation == 2
        assert f.status("team").warnings == ["line 3, column 1: `notes`: unknown key, ignored"]

        (components / "more.wasm").write_text("function:more")
        await eventually(lambda: f.skill("team/more") is READY)


async def test_a_file_breaks_and_is_repaired(
    tmp_path: Path, components: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pharia_kernel.namespaces")
    file = tmp_path / "team.toml"
    file.write_text(GOOD)
    async with following({"team": team(f"file://{file}", components)}, OFTEN) as f:
        replace(file, "skills = [\n  5,\n]")
        await eventually(lambda: f.state("team") is NamespaceState.STALE)
        error = f.error("team")
        assert (error["line"], error["column"]) == (2, 3)
        assert error["causes"][0].startswith("line 2, column 3: `skills[0]`: expected a table")
        assert await f.kernel.run("team/greet") == "function:greet"

        file.unlink()
        await eventually(lambda: "No such file" in f.error("team")["detail"])
        assert await f.kernel.run("team/greet") == "function:greet"

        file.mkdir()
        await eventually(lambda: "directory" in f.error("team")["detail"])
        file.rmdir()
        os.mkfifo(file)
        await eventually(lambda: "not a regular file" in f.error("team")["detail"])
        replace(file, "#" * (1 << 20) + "#")
        await eventually(lambda: "larger than 1 MiB" in f.error("team")["detail"])
        file.write_bytes(b"\xff")
        await eventually(lambda: "not UTF-8" in f.error("team")["detail"])
        polls = f.status("team").last_attempt
        await eventually(lambda: f.status("team").last_attempt != polls)

        replace(file, "skills = []")
        await eventually(lambda: f.state("team") is NamespaceState.OK)
        assert f.names() == []
    story = [r.getMessage().split(": ")[-1].rstrip(".") for r in caplog.records]
    assert "skills: 1 added, 0 changed, 0 removed" in " ".join(
        record.getMessage() for record in caplog.records
    )
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == len({record.getMessage() for record in errors}), "told twice"
    assert "Namespace team is in order again" in story


async def test_a_broken_file_at_the_start(tmp_path: Path, components: Path) -> None:
    file = tmp_path / "team.toml"
    file.write_text("skills = [")
    async with following({"team": team(f"file://{file}", components)}) as f:
        error = await error_of(f.kernel.run("team/greet"))
        assert isinstance(error, NamespaceMisconfigured)
        assert (error.extra["line"], error.extra["column"]) == (1, 11)
        assert f.state("team") is NamespaceState.BROKEN
        replace(file, GOOD)
        await eventually(lambda: f.skill("team/greet") is READY)


async def test_a_mounted_config_map_is_switched(tmp_path: Path, components: Path) -> None:
    """Kubernetes replaces a link beside the file."""
    for version, text in (("1", GOOD), ("2", "skills = []")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "team.toml").write_text(text)
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "team.toml").symlink_to("..data/team.toml")
    async with following({"team": team(f"file://{tmp_path}/team.toml", components)}) as f:
        assert f.names() == ["team/greet"]
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").rename(tmp_path / "..data")
        await eventually(lambda: f.names() == [])
