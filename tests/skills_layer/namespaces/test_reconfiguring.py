"""Namespaces that come, change and go while the kernel runs."""

from pathlib import Path

import pytest

from pharia_kernel.config.namespaces import WatchNamespace
from pharia_kernel.errors import SkillNotFound
from pharia_kernel.skills.namespaces import Config
from pharia_kernel.skills.types import NamespaceState, SkillStatus
from tests.skills_layer.support import error_of, eventually

from .support import GOOD, OFTEN, DescriptionServer, following, hang, team

READY = SkillStatus.READY


async def test_a_namespace_is_added(components: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.wasm").write_text("function:other")
    configs: dict[str, Config] = {"dev": WatchNamespace(directory=components)}
    async with following(configs) as f:
        configs["more"] = WatchNamespace(directory=tmp_path / "more")
        await f.namespaces.reconfigure(configs)
        await eventually(lambda: f.skill("more/other") is READY)
        assert f.tools.native["more"] == []
        (tmp_path / "more" / "new.wasm").write_text("function:new")  # it is watched, too
        await eventually(lambda: f.skill("more/new") is READY)


async def test_a_namespace_is_removed(
    server: DescriptionServer, components: Path, tmp_path: Path
) -> None:
    configs: dict[str, Config] = {
        "dev": WatchNamespace(directory=components),
        "team": team(server.url, components),
    }
    async with following(configs, state_directory=tmp_path / "state") as f:
        assert await f.kernel.run("team/greet") == "function:greet"
        assert len(list((tmp_path / "state").iterdir())) == 1
        await f.namespaces.reconfigure({"dev": configs["dev"]})
        assert f.names() == ["dev/greet"]
        assert isinstance(await error_of(f.kernel.run("team/greet")), SkillNotFound)
        assert [status.name for status in f.namespaces.statuses()] == ["dev"]
        assert "team" not in f.tools.native
        assert list((tmp_path / "state").iterdir()) == []


async def test_unchanged_namespaces_are_not_disturbed(
    server: DescriptionServer, components: Path
) -> None:
    server.handler = hang
    configs: dict[str, Config] = {
        "dev": WatchNamespace(directory=components),
        "team": team(server.url, components),
    }
    async with following({"dev": configs["dev"]}) as f:
        await f.namespaces.reconfigure(configs)
        await eventually(lambda: server.requests)
        before, generation = f.namespaces._followers["dev"], f.status("dev").generation
        configs["more"] = WatchNamespace(directory=components, native_tools=["add"])
        await f.namespaces.reconfigure({name: c.model_copy() for name, c in configs.items()})
        await eventually(lambda: f.skill("more/greet") is READY)
        # It may have looked again: directories are watched anew when there is one more.
        assert f.namespaces._followers["dev"] is before
        assert f.status("dev").generation == generation
        assert len(server.requests) == 1


async def test_a_changed_one_serves_until_the_new_description_is_there(
    server: DescriptionServer, components: Path
) -> None:
    configs: dict[str, Config] = {"team": team(server.url, components)}
    async with following(configs, OFTEN) as f:
        assert await f.kernel.run("team/greet") == "function:greet"
        await server.stop()
        configs["team"] = team(f"{server.url}?new", components)
        await f.namespaces.reconfigure(configs)
        await eventually(lambda: f.state("team") is NamespaceState.STALE)
        assert await f.kernel.run("team/greet") == "function:greet"
        server.text = "skills = []"
        await server.start()
        await eventually(lambda: f.names() == [])
        assert server.requests[-1].query_string == "new"
        assert f.status("team").generation == 2


async def test_another_form(components: Path, tmp_path: Path) -> None:
    (tmp_path / "team.toml").write_text(GOOD)
    loads = 1
    async with following({"team": WatchNamespace(directory=components)}) as f:
        await eventually(lambda: f.skill("team/greet") is READY)
        await f.namespaces.reconfigure({"team": team(f"file://{tmp_path}/team.toml", components)})
        await eventually(lambda: f.status("team").generation == 1 and f.status("team").last_success)
        assert f.status("team").form == "config-url"
        (tmp_path / "team.toml").write_text("skills = []")
        await eventually(lambda: f.names() == [])
        assert f.kernel.pool.loads["function:greet"] == loads


async def test_a_new_token(server: DescriptionServer, components: Path) -> None:
    configs: dict[str, Config] = {"team": team(server.url, components, token="old")}
    async with following(configs) as f:
        configs["team"] = team(server.url, components, token="new")
        await f.namespaces.reconfigure(configs)
        await eventually(lambda: len(server.requests) == 2)
        assert server.requests[1].headers["Authorization"] == "Bearer new"


async def test_before_the_start(components: Path) -> None:
    async with following({}, start=False) as f:
        await f.namespaces.reconfigure({"dev": WatchNamespace(directory=components)})
        assert f.state("dev") is NamespaceState.UNREAD
        await f.namespaces.start()
        assert f.names() == ["dev/greet"]


@pytest.mark.parametrize("times", [20])
async def test_back_and_forth(components: Path, tmp_path: Path, times: int) -> None:
    """The newest configuration wins, whatever was under way."""
    (tmp_path / "team.toml").write_text(GOOD)
    one: dict[str, Config] = {"team": WatchNamespace(directory=components)}
    two: dict[str, Config] = {"team": team(f"file://{tmp_path}/team.toml", components)}
    async with following(one) as f:
        for _ in range(times):
            await f.namespaces.reconfigure(two)
            await f.namespaces.reconfigure(one)
            await f.namespaces.reconfigure({})
            assert f.names() == []
            await f.namespaces.reconfigure(two)
        await eventually(lambda: f.skill("team/greet") is READY)
        assert await f.kernel.run("team/greet") == "function:greet"
