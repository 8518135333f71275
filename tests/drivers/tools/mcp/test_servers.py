"""Sessions and lists of tools, against servers written with the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from mcp_types import CallToolResult

from pharia_kernel.drivers.tools.mcp import (
    HealthState,
    McpServerConfig,
    McpServers,
    Policy,
)
from pharia_kernel.drivers.tools.mcp import (
    server as server_module,
)
from pharia_kernel.drivers.tools.mcp.session import MAX_PAGES
from pharia_kernel.errors import ToolFailed
from tests.drivers.tools.mcp.support import (
    NAMESPACE,
    QUICK,
    call,
    config_of,
    health,
    mcp_servers,
    names,
    until,
    within,
)
from tests.support.mcp_servers import Era, ToolServer, running, text, tool

SLOW = Policy(refresh_interval=3600)


@pytest.fixture
async def server() -> AsyncGenerator[ToolServer, None]:
    async with running("echo", "hang", "grow") as server:
        yield server


# --- sessions -------------------------------------------------------------------------------------


async def test_session_is_kept_for_many_operations(server: ToolServer) -> None:
    async with mcp_servers(server, policy=QUICK) as mcp:
        for _ in range(3):
            assert await call(mcp, "echo") == ["{}"]
        assert len(server.requests("initialize")) == len(server.open_sessions) == 1
        assert health(mcp).protocol_version == "2025-11-25"


async def test_newest_protocol_has_no_session_to_leak() -> None:
    async with running("echo", era=Era.MODERN) as server, mcp_servers(server) as mcp:
        assert await call(mcp, "echo") == ["{}"]
        assert health(mcp).protocol_version == "2026-07-28"
        assert not server.requests("initialize")
        assert not server.open_sessions


async def test_session_is_deleted_on_close(server: ToolServer) -> None:
    async with mcp_servers(server):
        assert len(server.open_sessions) == 1
    assert not server.open_sessions
    assert [r.http_method for r in server.received].count("DELETE") == 1


async def test_session_is_shared_until_the_last_namespace_drops_it(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        mcp.configure("second", [config_of(server, timeout=1.0)])
        await within(mcp.settled())
        assert len(server.open_sessions) == 1
        assert health(mcp).namespaces == [NAMESPACE, "second"]
        mcp.configure(NAMESPACE, [])
        assert names(mcp) == []
        assert names(mcp, "second") == ["echo", "hang", "grow"]
        assert len(server.open_sessions) == 1
        mcp.remove("second")
        await within(server.deleted.wait())
        assert mcp.health() == []


async def test_other_credentials_have_their_own_session(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        mcp.configure("second", [config_of(server, headers={"X-Tenant": "second"})])
        await within(mcp.settled())
        assert len(server.open_sessions) == 2
    assert not server.open_sessions


async def test_session_ends_after_its_calls_when_the_server_is_removed(server: ToolServer) -> None:
    server.handlers["hang"] = _until_let_go
    async with mcp_servers(server) as mcp:
        running_call = asyncio.create_task(call(mcp, "hang"))
        await within(server.arrived.wait())
        mcp.configure(NAMESPACE, [])
        assert len(server.open_sessions) == 1
        server.let_go.set()
        assert await within(running_call) == ["let go"]
        await within(server.deleted.wait())


async def test_server_that_comes_back_gets_a_new_session(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        mcp.configure(NAMESPACE, [])
        await within(server.deleted.wait())
        mcp.configure(NAMESPACE, [config_of(server)])
        await within(mcp.settled())
        assert names(mcp) == ["echo", "hang", "grow"]
        assert len(server.open_sessions) == 1


async def test_silent_server_does_not_hold_up_the_end(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        server.mute = True
        await within(mcp.close())
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("MCP")]


async def test_end_in_the_middle_of_connecting(server: ToolServer) -> None:
    server.mute = True
    mcp = McpServers()
    mcp.configure(NAMESPACE, [config_of(server, connect_timeout=0.3)])
    await mcp.start()
    await until(mcp, lambda: True)
    await within(mcp.close())
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("MCP")]


async def test_tokens_and_headers_go_with_every_request() -> None:
    async with running("echo", token="s3cret") as server:
        config = config_of(server, token="s3cret", headers={"X-Tenant": "acme"})
        async with mcp_servers(config) as mcp:
            assert await call(mcp, "echo") == ["{}"]
        assert {request.http_method for request in server.received} == {"POST", "GET", "DELETE"}
        for request in server.received:
            assert request.headers["authorization"] == "Bearer s3cret"
            assert request.headers["x-tenant"] == "acme"


async def test_wrong_token_is_told_without_the_token() -> None:
    async with (
        running("echo", token="s3cret") as server,
        mcp_servers(config_of(server, token="wr0ng")) as mcp,
    ):
        assert health(mcp).state is HealthState.FAILING
        assert health(mcp).error == "answered with HTTP status 401"
        with pytest.raises(ToolFailed, match="answered with HTTP status 401") as failure:
            await call(mcp, "echo")
        assert "wr0ng" not in failure.value.detail


# --- lists ----------------------------------------------------------------------------------------


async def test_pages_are_followed() -> None:
    async with running(page_size=2) as server, mcp_servers(server, policy=SLOW) as mcp:
        assert names(mcp) == [tool.name for tool in server.tools]
        assert len(server.requests("tools/list")) == (len(server.tools) + 1) // 2


async def test_list_without_end_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    async with running("echo", page_size=1, endless=True, json_response=True) as server:
        async with mcp_servers(server, policy=SLOW) as mcp:
            assert names(mcp) == ["echo"]
        assert len(server.requests("tools/list")) == MAX_PAGES
    assert "has no end to its list of tools" in caplog.text


async def test_missing_description_and_double_names() -> None:
    async with running("echo") as server:
        server.tools += [tool("echo", "again"), tool("described", "What it does")]
        async with mcp_servers(server) as mcp:
            (tools,) = mcp.tools(NAMESPACE) or []
            described = [(tool.name, tool.description) for tool in tools.tools]
            assert described == [("echo", ""), ("described", "What it does")]
            assert bytes(tools.tools[0].input_schema) == b'{"type":"object"}'


async def test_list_is_asked_for_again_after_the_interval(server: ToolServer) -> None:
    async with mcp_servers(server, policy=QUICK) as mcp:
        server.tools.append(tool("later"))
        await until(mcp, lambda: "later" in names(mcp))
        assert len(server.requests("initialize")) == 1


async def test_change_is_told_in_a_session(server: ToolServer) -> None:
    async with mcp_servers(server, policy=SLOW) as mcp:
        await within(server.listening.wait())
        await call(mcp, "grow")
        await until(mcp, lambda: "grown" in names(mcp))


async def test_change_is_told_with_the_newest_protocol() -> None:
    async with running("echo", era=Era.MODERN) as server, mcp_servers(server, policy=SLOW) as mcp:
        await within(server.listening.wait())
        server.tools.append(tool("grown"))
        await server.announce_tools()
        await until(mcp, lambda: "grown" in names(mcp))


async def test_removed_server_does_not_come_back_with_a_late_list(server: ToolServer) -> None:
    server.gate = asyncio.Event()
    mcp = McpServers()
    mcp.configure(NAMESPACE, [config_of(server)])
    await mcp.start()
    await within(server.listed.wait())
    mcp.configure(NAMESPACE, [])
    server.gate.set()
    await within(server.deleted.wait())
    assert (mcp.tools(NAMESPACE), mcp.health()) == ([], [])
    await within(mcp.close())


async def test_namespaces_are_known_once_configured() -> None:
    mcp = McpServers()
    assert (mcp.tools(NAMESPACE), mcp.urls(NAMESPACE)) == (None, None)
    mcp.configure(NAMESPACE, [])
    assert (mcp.tools(NAMESPACE), mcp.urls(NAMESPACE)) == ([], [])
    mcp.remove(NAMESPACE)
    assert (mcp.tools(NAMESPACE), mcp.urls(NAMESPACE)) == (None, None)


async def test_urls_are_sorted_and_servers_keep_their_order() -> None:
    mcp = McpServers()
    urls = ["http://b/mcp", "http://a/mcp", "http://a/mcp?key=1", "http://b/mcp"]
    mcp.configure(NAMESPACE, [McpServerConfig(url=url) for url in urls])
    assert mcp.urls(NAMESPACE) == ["http://a/mcp", "http://a/mcp", "http://b/mcp"]
    assert [tools.server for tools in mcp.tools(NAMESPACE) or []] == ["b", "a", "a_2"]


async def test_bad_configuration_changes_nothing() -> None:
    mcp = McpServers()
    mcp.configure(NAMESPACE, [McpServerConfig(url="http://a/mcp")])
    with pytest.raises(ValueError, match="absolute HTTP"):
        mcp.configure(NAMESPACE, [McpServerConfig(url="http://b/mcp"), McpServerConfig(url="b")])
    assert mcp.urls(NAMESPACE) == ["http://a/mcp"]
    assert [health.url for health in mcp.health()] == ["http://a/mcp"]


# --- health ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [3600.0, 0.0])
async def test_list_of_a_failing_server_is_kept_for_a_while(
    server: ToolServer, keep: float
) -> None:
    policy = Policy(refresh_interval=0.05, first_pause=0.01, longest_pause=0.05, keep_list=keep)
    async with mcp_servers(server, policy=policy) as mcp:
        before = health(mcp)
        assert (before.state, before.error, before.tools) == (HealthState.HEALTHY, None, 3)
        await server.die()
        await until(mcp, lambda: health(mcp).state is HealthState.FAILING)
        assert health(mcp).error == "cannot be reached"
        assert health(mcp).since >= before.since
        assert len(names(mcp)) == health(mcp).tools == (3 if keep else 0)
        await server.start()
        await until(mcp, lambda: health(mcp).state is HealthState.HEALTHY)
        assert len(names(mcp)) == 3


async def test_pauses_grow_while_a_server_fails(
    server: ToolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def record(event: asyncio.Event, seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 12:
            await event.wait()

    await server.die()
    monkeypatch.setattr(server_module, "_set_within", record)
    monkeypatch.setattr(server_module, "_with_jitter", lambda seconds: seconds)
    policy = Policy(first_pause=1.0, longest_pause=10.0)
    async with mcp_servers(server, policy=policy) as mcp:
        await until(mcp, lambda: len(pauses) == 12)
    await server.start()
    whole = [first + rest for first, rest in zip(pauses[0:12:2], pauses[1:12:2], strict=True)]
    assert whole == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


async def test_call_makes_a_failing_server_be_tried_early(
    server: ToolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pausing = asyncio.Event()

    async def pause(event: asyncio.Event, seconds: float) -> None:
        if seconds > 1.0:  # for ever, unless somebody wants something
            pausing.set()
            await event.wait()

    monkeypatch.setattr(server_module, "_set_within", pause)
    await server.die()
    policy = Policy(first_pause=0.9, longest_pause=3600.0)
    async with mcp_servers(config_of(server), policy=policy) as mcp:
        await within(pausing.wait())
        await server.start()
        with pytest.raises(ToolFailed, match="cannot be reached"):
            await call(mcp, "echo")
        await until(mcp, lambda: health(mcp).state is HealthState.HEALTHY)


async def test_server_that_never_answers_is_failing(server: ToolServer) -> None:
    server.mute = True
    async with mcp_servers(config_of(server, connect_timeout=0.2)) as mcp:
        assert health(mcp).state is HealthState.FAILING
        assert health(mcp).error == "did not answer in time"


async def test_who_waits_for_the_first_list_does_not_wait_for_a_new_session(
    server: ToolServer,
) -> None:
    policy = Policy(refresh_interval=0.05, list_timeout=0.1)
    async with mcp_servers(server, policy=policy) as mcp:
        server.mute = True
        await until(mcp, lambda: health(mcp).state is HealthState.CONNECTING)
        await within(mcp.settled())
        assert health(mcp).state is HealthState.CONNECTING
        assert names(mcp) == ["echo", "hang", "grow"]


async def test_first_state_is_connecting(server: ToolServer) -> None:
    mcp = McpServers()
    mcp.configure(NAMESPACE, [config_of(server)])
    assert health(mcp).state is HealthState.CONNECTING
    assert health(mcp).tools == 0
    assert not server.received


async def _until_let_go(server: ToolServer, *_: object) -> CallToolResult:
    server.arrived.set()
    await server.let_go.wait()
    return text("let go")
