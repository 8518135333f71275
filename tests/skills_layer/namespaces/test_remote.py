"""Descriptions on a real HTTP server, which is killed, slowed and broken."""

import asyncio
import logging
from pathlib import Path

import pytest
from aiohttp import web

from pharia_kernel.errors import NamespaceMisconfigured, NamespaceUnavailable
from pharia_kernel.skills.namespaces import Config, namespaces
from pharia_kernel.skills.namespaces import following as module
from pharia_kernel.skills.types import NamespaceState, SkillStatus
from tests.skills_layer.support import error_of, eventually

from .support import GOOD, OFTEN, TOKEN, DescriptionServer, following, hang, team

OK, STALE, BROKEN = NamespaceState.OK, NamespaceState.STALE, NamespaceState.BROKEN
READY = SkillStatus.READY


async def test_a_description_is_followed(server: DescriptionServer, components: Path) -> None:
    url = server.url.replace("//", "//me:pw@") + "?private=hunter3"
    async with following({"team": team(url, components)}, OFTEN) as f:
        assert await f.kernel.run("team/greet") == "function:greet"
        assert f.status("team").source == server.url
        await eventually(lambda: server.statuses.count(304) > 2)
        assert f.status("team").generation == 1
        told = f.tools.calls

        server.text = 'skills = []\nmcp-servers = ["http://mcp/x"]\nnative-tools = ["add"]'
        await eventually(lambda: f.names() == [])
        assert f.status("team").generation == 2
        assert (f.tools.mcp["team"], f.tools.native["team"]) == (["http://mcp/x"], ["add"])
        polls = len(server.requests)
        await eventually(lambda: len(server.requests) > polls + 2)
        assert f.tools.calls == told + 1


async def test_without_validators_it_is_compared(
    server: DescriptionServer, components: Path
) -> None:
    server.etags = False
    async with following({"team": team(server.url, components)}, OFTEN) as f:
        await eventually(lambda: server.statuses.count(200) > 3)
        assert f.status("team").generation == 1


async def test_a_poll_from_outside(server: DescriptionServer, components: Path) -> None:
    async with following({"team": team(server.url, components)}) as f:
        server.text = "skills = []"
        f.namespaces.poll("team")
        await eventually(lambda: f.names() == [])


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_trouble_keeps_the_last_good_state(
    server: DescriptionServer,
    components: Path,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "pharia_kernel.namespaces")
    async with following({"team": team(server.url, components)}, OFTEN) as f:
        assert await f.kernel.run("team/greet") == "function:greet"
        server.answer(status)
        await eventually(lambda: server.statuses.count(status) > 2)
        await eventually(lambda: f.state("team") is STALE)
        assert await f.kernel.run("team/greet") == "function:greet"
        error = f.error("team")
        assert f"status {status}" in error["detail"]
        assert error["retryable"] is (status in {429, 500, 503})
        hint = "Check `namespaces.team.config-access-token` or the variable NAMESPACES__TEAM__"
        assert (hint in error["detail"]) is (status in {401, 403})
        assert server.origin not in str(error)
        server.handler = None
        await eventually(lambda: f.state("team") is OK)
        assert f.status("team").error is None
    story = [record.getMessage() for record in caplog.records]
    assert sum("Namespace team is stale" in line for line in story) == 1
    assert sum("Namespace team is in order again" in line for line in story) == 1
    assert TOKEN not in caplog.text
    assert server.origin not in "".join(story)


async def test_a_server_that_is_killed_and_comes_back(
    server: DescriptionServer, components: Path
) -> None:
    async with following({"team": team(server.url, components)}, OFTEN) as f:
        await server.stop()
        await eventually(lambda: f.state("team") is STALE)
        assert f.error("team")["causes"] == ["its server can't be reached", "Connection refused"]
        assert await f.kernel.run("team/greet") == "function:greet"
        await server.start()
        await eventually(lambda: f.state("team") is OK)


async def test_a_broken_description_keeps_the_last_good_one(
    server: DescriptionServer, components: Path
) -> None:
    async with following({"team": team(server.url, components)}, OFTEN) as f:
        server.text = "[[skills]]\nname = 'greet'\nrun-timeout = 5"
        await eventually(lambda: f.state("team") is STALE)
        error = f.error("team")
        assert (error["code"], error["line"], error["column"]) == ("namespace_misconfigured", 3, 1)
        assert await f.kernel.run("team/greet") == "function:greet"


async def test_only_what_can_not_get_better_unloads(
    server: DescriptionServer, components: Path
) -> None:
    async with following({"team": team(server.url, components)}, OFTEN, unload_broken=True) as f:
        server.answer(500)
        await eventually(lambda: f.state("team") is STALE)
        assert f.names() == ["team/greet"]
        server.answer(401)
        await eventually(lambda: f.state("team") is BROKEN)
        error = await error_of(f.kernel.run("team/greet"))
        assert isinstance(error, NamespaceMisconfigured)
        assert f.names() == []
        server.handler = None
        await eventually(lambda: f.skill("team/greet") is READY)


async def test_a_page_to_log_in_at(server: DescriptionServer, components: Path) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="<html><p>Welcome</p></html>", content_type="text/html")

    server.handler = handler
    async with following({"team": team(server.url, components, token=None)}) as f:
        assert "sent a web page instead of TOML" in f.error("team")["detail"]
        assert "Set `namespaces.team.config-access-token`" in f.error("team")["detail"]


# --- the start ------------------------------------------------------------------------------------


async def test_nobody_answers_at_the_start(server: DescriptionServer, components: Path) -> None:
    await server.stop()
    async with following({"team": team(server.url, components)}, OFTEN) as f:
        assert f.state("team") is BROKEN
        error = await error_of(f.kernel.run("team/greet"))
        assert isinstance(error, NamespaceUnavailable)
        assert error.retryable
        await server.start()
        await eventually(lambda: f.skill("team/greet") is READY)


async def test_one_that_hangs_does_not_hold_up_the_others(
    server: DescriptionServer, components: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "FIRST_PASS_LIMIT", 0.05)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await hang(request) if request.path == "/slow" else web.Response(text=GOOD)

    server.handler = handler
    configs: dict[str, Config] = {
        "slow": team(f"{server.origin}/slow", components),
        "team": team(server.url, components),
    }
    async with following(configs) as f:
        await eventually(lambda: f.skill("team/greet") is READY)
        assert f.state("slow") is NamespaceState.UNREAD


async def test_many_namespaces(server: DescriptionServer, components: Path) -> None:
    configs: dict[str, Config] = {
        f"team-{i}": team(f"{server.origin}/{i}", components) for i in range(50)
    }
    async with following(configs) as f:
        assert {f.state(name) for name in configs} == {OK}
        assert len(f.names()) == 50


# --- over restarts --------------------------------------------------------------------------------


async def test_a_restart_while_the_server_is_down(
    server: DescriptionServer, components: Path, tmp_path: Path
) -> None:
    config = team(server.url, components)
    state = tmp_path / "state"
    async with following({"team": config}, state_directory=state) as f:
        assert f.state("team") is OK
    (file,) = state.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert TOKEN not in file.read_text() + file.name

    await server.stop()
    async with following({"team": config}, OFTEN, state_directory=state) as f:
        assert f.state("team") is STALE
        assert "can't be reached" in f.error("team")["detail"]
        assert await f.kernel.run("team/greet") == "function:greet"
        await server.start()
        await eventually(lambda: f.state("team") is OK)
        assert f.status("team").generation == 1
        assert server.statuses[-1] == 304


async def test_a_restart_while_the_server_hangs(
    server: DescriptionServer, components: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IMPATIENCE", 0.01)
    configs = {"team": team(server.url, components)}
    async with following(configs, state_directory=tmp_path):
        pass
    server.handler = hang
    async with following(configs, state_directory=tmp_path) as f:
        assert f.state("team") is STALE
        assert "has not arrived since the start" in f.error("team")["detail"]
        assert await f.kernel.run("team/greet") == "function:greet"


async def test_the_newest_good_description_is_remembered(
    server: DescriptionServer, components: Path, tmp_path: Path
) -> None:
    configs = {"team": team(server.url, components)}
    async with following(configs, OFTEN, state_directory=tmp_path) as f:
        server.text = 'skills = [{ name = "other" }]'
        await eventually(lambda: f.names() == ["team/other"])
        server.text = "skills = ["
        await eventually(lambda: f.state("team") is STALE)
    await server.stop()
    async with following(configs, state_directory=tmp_path) as f:
        assert f.names() == ["team/other"]


def spoil(directory: Path, content: str) -> None:
    (file,) = directory.glob("team.*.json")
    file.write_text(content, "latin-1")


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"text": "skills = [", "validators": {"etag": "x"}}', '{"text": 5}', "\xff"],
)
async def test_what_is_remembered_is_checked(
    server: DescriptionServer, components: Path, tmp_path: Path, content: str
) -> None:
    configs = {"team": team(server.url, components)}
    async with following(configs, state_directory=tmp_path):
        pass
    spoil(tmp_path, content)
    await server.stop()
    async with following(configs, OFTEN, state_directory=tmp_path) as f:
        assert f.state("team") is BROKEN
        await server.start()
        await eventually(lambda: f.state("team") is OK)
    assert "If-None-Match" not in server.requests[-1].headers


async def test_what_was_unloaded_is_not_recalled(
    server: DescriptionServer, components: Path, tmp_path: Path
) -> None:
    configs = {"team": team(server.url, components)}
    async with following(configs, state_directory=tmp_path):
        pass
    server.answer(401)
    async with following(configs, OFTEN, unload_broken=True, state_directory=tmp_path) as f:
        assert f.state("team") is BROKEN
        server.answer(500)
        await eventually(lambda: "500" in f.error("team")["detail"])
        assert f.state("team") is BROKEN
        assert f.names() == []


async def test_another_url_has_no_memory(
    server: DescriptionServer, components: Path, tmp_path: Path
) -> None:
    async with following({"team": team(server.url, components)}, state_directory=tmp_path):
        pass
    await server.stop()
    other = {"team": team(f"{server.url}?ref=main", components)}
    async with following(other, state_directory=tmp_path) as f:
        assert f.state("team") is BROKEN


async def test_a_directory_that_can_not_be_written(
    server: DescriptionServer,
    components: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    configs = {"team": team(server.url, components)}
    async with following(configs, state_directory=tmp_path / "file") as f:
        assert f.state("team") is OK
    assert "can't be kept for a restart: File exists" in caplog.text


# --- pauses ---------------------------------------------------------------------------------------


async def pauses_of(
    server: DescriptionServer, components: Path, monkeypatch: pytest.MonkeyPatch, polls: int
) -> list[float]:
    """How long the follower means to wait after each attempt."""
    pauses: list[float] = []
    original = module.Follower._pause

    def pause(self: module.Follower) -> float:
        pauses.append(original(self))
        return pauses[-1]

    monkeypatch.setattr(module.Follower, "_pause", pause)
    async with following({"team": team(server.url, components)}, 10.0) as f:
        for count in range(2, polls + 1):
            f.namespaces.poll("team")
            await eventually(lambda: len(pauses) >= count)  # noqa: B023
    return pauses[:polls]


async def test_failures_make_pauses_longer(
    server: DescriptionServer, components: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer(500)
    pauses = await pauses_of(server, components, monkeypatch, 8)
    for pause, expected in zip(pauses, [10, 20, 40, 80, 160, 300, 300, 300], strict=True):
        assert 0.9 * expected <= pause <= min(1.1 * expected, 300)


async def test_success_makes_them_regular(
    server: DescriptionServer, components: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(9 <= p <= 11 for p in await pauses_of(server, components, monkeypatch, 3))


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("120", 120, 120), ("1", 9, 11), ("86400", 300, 300)]
)
async def test_what_the_server_asks_for(
    server: DescriptionServer,
    components: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    least: float,
    most: float,
) -> None:
    server.answer(429, {"Retry-After": asked})
    (pause,) = await pauses_of(server, components, monkeypatch, 1)
    assert least <= pause <= most


async def test_components_are_looked_at_while_the_server_is_down(
    server: DescriptionServer, components: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the pause between requests has become."""
    looks = asyncio.Event()
    async with following({"team": team(server.url, components)}, OFTEN) as f:
        monkeypatch.setattr(module.Follower, "_pause", lambda _: 3600.0)
        server.answer(500)
        await eventually(lambda: f.state("team") is STALE)
        original = f.kernel.store.configure

        def configure(namespace: str, desired: object) -> None:
            looks.set()
            original(namespace, desired)  # type: ignore[arg-type]

        monkeypatch.setattr(f.kernel.store, "configure", configure)
        async with asyncio.timeout(30):
            await looks.wait()
        (components / "greet.wasm").write_text("function:new")
        await eventually(lambda: f.kernel.pool.loads["function:new"])
