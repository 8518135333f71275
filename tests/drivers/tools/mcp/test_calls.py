"""Calls of tools, against servers written with the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from msgspec import Raw

from pharia_kernel.csi.types import Argument
from pharia_kernel.drivers.tools.mcp import HealthState, McpServerConfig, McpServers
from pharia_kernel.drivers.tools.mcp.server import MAX_PARALLEL_CALLS
from pharia_kernel.errors import ToolFailed
from tests.drivers.tools.mcp.support import (
    NAMESPACE,
    QUICK,
    call,
    config_of,
    health,
    mcp_servers,
    until,
    within,
)
from tests.support.mcp_servers import Era, ToolServer, running

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
}
KINDS: dict[str, dict[str, object]] = {
    "sessions-sse": {"era": Era.SESSIONS},
    "sessions-json": {"era": Era.SESSIONS, "json_response": True},
    "stateless-sse": {"era": Era.SESSIONS, "stateless": True},
    "stateless-json": {"era": Era.SESSIONS, "stateless": True, "json_response": True},
    "modern-sse": {"era": Era.MODERN},
    "modern-json": {"era": Era.MODERN, "json_response": True},
}
# A server of the SDK that answers in JSON and has no session can't be told.
HEARS_CANCELLATION = ["sessions-sse", "sessions-json", "stateless-sse", "modern-sse"]


@pytest.fixture(params=list(KINDS))
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[ToolServer, None]:
    """One of each kind."""
    async with running(**KINDS[request.param]) as server:
        yield server


@pytest.fixture
async def usual() -> AsyncGenerator[ToolServer, None]:
    """With sessions, and events for answers: what the SDK makes unless it is told otherwise."""
    async with running() as server:
        yield server


async def test_arguments_arrive_and_text_comes_back(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        assert await call(mcp, "echo", a=1, b={"c": [None, "å"]}) == [
            '{"a": 1, "b": {"c": [null, "\\u00e5"]}}'
        ]


async def test_log_notifications_before_the_result_are_skipped(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        assert await call(mcp, "chatty") == ["done"]


async def test_two_calls_at_once(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        first, second = await asyncio.gather(call(mcp, "meet"), call(mcp, "meet"))
        assert first == second == ["met"]


async def test_hanging_tool_does_not_block_others(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        hanging = asyncio.create_task(call(mcp, "hang"))
        await within(server.arrived.wait())
        assert await call(mcp, "echo") == ["{}"]
        assert not hanging.done()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_trace_context_goes_along(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        await call(mcp, "echo", headers=TRACE)
        await call(mcp, "where")
    (traced,) = server.calls("echo")
    assert TRACE.items() <= traced.headers.items()
    assert TRACE.items() <= traced.message["params"]["_meta"].items()
    (untraced,) = server.calls("where")
    assert not TRACE.keys() & untraced.headers.keys()


async def test_error_of_the_protocol_has_code_and_message(server: ToolServer) -> None:
    async with mcp_servers(server) as mcp:
        with pytest.raises(ToolFailed, match=r"refuse failed: Not on a Sunday .* -32042\)"):
            await call(mcp, "refuse")
        with pytest.raises(ToolFailed, match=r"Unknown tool: nope .* -32602\)"):
            await call(mcp, "nope")
        assert health(mcp).state is HealthState.HEALTHY


@pytest.mark.parametrize("kind", HEARS_CANCELLATION)
async def test_cancellation_reaches_the_server_and_spares_the_session(kind: str) -> None:
    async with running(**KINDS[kind]) as server, mcp_servers(server) as mcp:
        sessions = set(server.open_sessions)
        hanging = asyncio.create_task(call(mcp, "hang"))
        await within(server.arrived.wait())
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(hanging)
        await within(server.cancelled.wait())
        assert await call(mcp, "echo") == ["{}"]
        assert server.open_sessions == sessions


async def test_timeout_is_of_the_namespace_and_spares_the_session(usual: ToolServer) -> None:
    async with mcp_servers(config_of(usual, timeout=0.3)) as mcp:
        sessions = set(usual.open_sessions)
        with pytest.raises(ToolFailed, match=r"did not answer within 0\.3 s"):
            await call(mcp, "hang")
        await within(usual.cancelled.wait())
        assert await call(mcp, "echo") == ["{}"]
        assert usual.open_sessions == sessions


# --- results --------------------------------------------------------------------------------------


async def test_failure_of_a_tool_is_its_texts(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        with pytest.raises(ToolFailed) as failure:
            await call(mcp, "fail")
        assert failure.value.detail == "No cheese.\n\nTry the shop."
        with pytest.raises(ToolFailed, match="fail_silently failed and did not say why"):
            await call(mcp, "fail_silently")


async def test_structured_content_stands_in_for_text(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        assert await call(mcp, "structured") == ['{"degrees":21.5,"sky":"blå"}']
        assert await call(mcp, "structured_and_text") == ["21.5 degrees"]


async def test_other_modalities_are_described(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        assert await call(mcp, "media") == [
            "Look:",
            "[image: image/png, 68 bytes]",
            "[audio: audio/ogg, 101 bytes]",
            "[resource link: application/pdf, 4096 bytes, file:///report.pdf, report]",
            "[resource: text/plain, 4 bytes, file:///note.txt]\nblå",
            "[resource: 10 bytes, file:///raw]",
        ]


# --- what can go wrong ----------------------------------------------------------------------------


async def test_argument_that_is_not_json_asks_nobody(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        (tools,) = mcp.tools(NAMESPACE) or []
        with pytest.raises(ToolFailed, match="Argument a is not valid JSON"):
            await mcp.call(NAMESPACE, tools.server, "echo", [Argument("a", Raw(b"{"))])
        assert not usual.requests("tools/call")


async def test_unknown_server_and_namespace(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        (tools,) = mcp.tools(NAMESPACE) or []
        for namespace, server in ((NAMESPACE, "nowhere"), ("unknown", tools.server)):
            with pytest.raises(ToolFailed, match="Tool echo not found on any server"):
                await mcp.call(namespace, server, "echo", [])


async def test_unreachable_server_is_named_without_secrets() -> None:
    async with running("echo") as server:
        url = server.url.replace("//", "//anna:s3cret@") + "?key=s3cret"
    async with mcp_servers(McpServerConfig(url=url)) as mcp:
        with pytest.raises(ToolFailed) as failure:
            await call(mcp, "echo")
        assert failure.value.detail == f"Tool server 127.0.0.1:{server.port} cannot be reached."
        assert "s3cret" not in repr(mcp.health()) + repr(mcp.urls(NAMESPACE))


async def test_server_that_dies_in_a_call_fails_only_that(usual: ToolServer) -> None:
    async with mcp_servers(usual, policy=QUICK) as mcp:
        hanging = asyncio.create_task(call(mcp, "hang"))
        await within(usual.arrived.wait())
        await usual.die()
        with pytest.raises(ToolFailed, match=r"hung up|closed the connection|SSE stream ended"):
            await within(hanging)
        await until(mcp, lambda: health(mcp).state is HealthState.FAILING)
        await usual.start()
        await until(mcp, lambda: health(mcp).state is HealthState.HEALTHY)
        assert await call(mcp, "echo") == ["{}"]


async def test_broken_connection_of_one_call_spares_the_others(usual: ToolServer) -> None:
    """The SDK by itself would end the session and all its calls."""
    async with mcp_servers(usual) as mcp:
        meeting = asyncio.create_task(call(mcp, "meet"))
        usual.cut = "hang"
        with pytest.raises(ToolFailed, match="hung up"):
            await call(mcp, "hang")
        assert await call(mcp, "meet") == ["met"]
        assert await within(meeting) == ["met"]
        assert len(usual.requests("initialize")) == 1


async def test_forgotten_session_is_opened_again_within_the_call(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        (forgotten,) = usual.open_sessions
        await usual.die()
        await usual.start()
        assert await call(mcp, "echo", a=1) == ['{"a": 1}']
        assert len(usual.open_sessions - {forgotten}) == 1


async def test_calls_at_once_are_limited(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        calls = [asyncio.create_task(call(mcp, "crowd")) for _ in range(2 * MAX_PARALLEL_CALLS)]
        await within(usual.crowded.wait())
        usual.let_go.set()
        assert await within(asyncio.gather(*calls)) == [["through"]] * len(calls)
    assert usual.most_crowded == MAX_PARALLEL_CALLS


async def test_closing_ends_calls(usual: ToolServer) -> None:
    async with mcp_servers(usual) as mcp:
        hanging = asyncio.create_task(call(mcp, "hang"))
        await within(usual.arrived.wait())
        await within(mcp.close())
        with pytest.raises(ToolFailed, match=r"Tool server 127\.0\.0\.1"):
            await within(hanging)
        assert not usual.open_sessions


async def test_server_without_list_gets_no_call(usual: ToolServer) -> None:
    mcp = McpServers()
    mcp.configure(NAMESPACE, [config_of(usual, timeout=0.1)])
    (tools,) = mcp.tools(NAMESPACE) or []
    assert tools.tools == []
    with pytest.raises(ToolFailed, match=r"did not answer within 0\.1 s"):
        await mcp.call(NAMESPACE, tools.server, "echo", [])
    assert not usual.received
