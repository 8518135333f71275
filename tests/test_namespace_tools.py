"""A real MCP server, and a description that changes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from msgspec import Raw

from pharia_kernel.config.tools import McpServer
from pharia_kernel.csi.types import Argument
from pharia_kernel.errors import ToolFailed
from pharia_kernel.namespace_tools import NamespaceTools
from pharia_kernel.outbound import OutboundPolicy
from tests.skills_layer.support import eventually
from tests.support.mcp_servers import running


@asynccontextmanager
async def namespace_tools(*guarded: str) -> AsyncGenerator[NamespaceTools, None]:
    tools = NamespaceTools(lambda namespace: namespace in guarded, OutboundPolicy())
    yield tools
    await tools.close()


def names(tools: NamespaceTools, namespace: str) -> list[str] | None:
    found = tools.toolbox.tools(namespace)
    return None if found is None else [tool.name for tool in found]


async def test_a_description_that_changes() -> None:
    async with namespace_tools() as tools, running("echo") as server:
        tools.expect(["team"])
        assert names(tools, "team") == []
        assert tools.urls("team") == []
        tools.configure("team", [McpServer(url=server.url)], ["add"])
        await eventually(lambda: names(tools, "team") == ["add", "echo"])
        assert tools.urls("team") == [server.url]
        assert [health.tools for health in tools.health()] == [1]
        tools.configure("team", [], ["subtract"])
        assert names(tools, "team") == ["subtract"]
        tools.remove("team")
        assert names(tools, "team") is None
        assert tools.urls("team") is None
        assert tools.health() == []


async def test_the_first_call_waits_for_the_server_to_be_asked() -> None:
    async with namespace_tools() as tools, running("echo") as server:
        tools.configure("team", [McpServer(url=server.url)], [])
        assert names(tools, "team") == []
        (output,) = await tools.toolbox.invoke("team", "echo", [Argument("a", Raw(b"1"))])
        assert output.text == '{"a": 1}'


async def test_a_server_that_is_not_there_is_not_waited_for_again() -> None:
    async with namespace_tools() as tools:
        tools.configure("team", [McpServer(url="http://127.0.0.1:1/mcp")], ["add"])
        await tools.toolbox.settle("team")
        assert [health.state for health in tools.health()] == ["failing"]
        await tools.toolbox.settle("team")
        with pytest.raises(ToolFailed, match="not found on any server"):
            await tools.toolbox.invoke("team", "echo", [])


async def test_what_is_expected_again_keeps_its_tools() -> None:
    async with namespace_tools() as tools:
        tools.configure("team", [], ["add"])
        tools.expect(["team", "other"])
        assert names(tools, "team") == ["add"]
        assert names(tools, "other") == []


async def test_a_server_that_makes_no_sense_does_not_hide_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    two_ways = McpServer.model_validate(
        {"url": "http://user:hunter2@localhost/mcp", "token": "hunter3"}, by_name=True
    )
    async with namespace_tools() as tools, running("echo") as server:
        tools.configure("team", [two_ways, McpServer(url=server.url)], [])
        await eventually(lambda: names(tools, "team") == ["echo"])
    assert "more than one way to authenticate" in caplog.text
    assert "hunter" not in caplog.text


async def test_a_guarded_namespace_does_not_reach_this_machine() -> None:
    async with namespace_tools("remote") as tools, running("echo") as server:
        for namespace in ("remote", "own"):
            tools.configure(namespace, [McpServer(url=server.url)], [])
        await eventually(lambda: names(tools, "own") == ["echo"])
        await eventually(lambda: any(health.error for health in tools.health()))
        assert names(tools, "remote") == []
        (error,) = (health.error for health in tools.health() if health.error)
        assert "outbound" in error


async def test_a_tool_can_be_called() -> None:
    async with namespace_tools() as tools, running("echo") as server:
        tools.configure("team", [McpServer(url=server.url)], [])
        await eventually(lambda: names(tools, "team") == ["echo"])
        arguments: list[Argument] = []
        assert await tools.toolbox.invoke("team", "echo", arguments)
        assert len(server.calls("echo")) == 1
