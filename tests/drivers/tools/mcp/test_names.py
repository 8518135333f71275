"""What the toolbox calls the tools of MCP servers."""

from __future__ import annotations

import pytest
from mcp_types import CallToolResult

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import ToolFailed
from tests.drivers.tools.mcp.support import NAMESPACE, arguments, mcp_servers, within
from tests.support.mcp_servers import HANDLERS, ToolServer, running, text, tool


def names(toolbox: Toolbox) -> list[str]:
    return [tool.name for tool in toolbox.tools(NAMESPACE) or []]


def qualified(server: ToolServer, name: str) -> str:
    return f"127_0_0_1_{server.port}__{name}"


async def invoke(toolbox: Toolbox, name: str) -> str:
    (output,) = await within(toolbox.invoke(NAMESPACE, name, arguments(a=1, b=2)))
    return output.text


async def test_native_and_mcp_tools_are_listed_together_by_name() -> None:
    async with running("echo", "where") as server, mcp_servers(server) as mcp:
        toolbox = Toolbox(mcp)
        assert names(toolbox) == ["echo", "where"]
        toolbox.set_native(NAMESPACE, ["subtract", "add"])
        assert names(toolbox) == ["add", "echo", "subtract", "where"]
        assert await invoke(toolbox, "add") == "3"
        assert await invoke(toolbox, "echo") == '{"a": 1, "b": 2}'


async def test_first_configured_server_wins_and_the_other_is_qualified(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running("where") as one, running("where") as two:
        for first, second in ((one, two), (two, one)):
            caplog.clear()
            async with mcp_servers(first, second) as mcp:
                toolbox = Toolbox(mcp)
                for _ in range(3):
                    assert names(toolbox) == sorted(["where", qualified(second, "where")])
                    assert await invoke(toolbox, "where") == first.url
                    assert await invoke(toolbox, qualified(second, "where")) == second.url
            assert caplog.text.count(f"is called {qualified(second, 'where')}") == 1


async def test_native_tool_wins() -> None:
    async with running("echo") as server:
        server.tools.append(tool("add", "Something else"))
        server.handlers["add"] = HANDLERS["where"]
        async with mcp_servers(server) as mcp:
            toolbox = Toolbox(mcp)
            toolbox.set_native(NAMESPACE, ["add"])
            assert names(toolbox) == [qualified(server, "add"), "add", "echo"]
            assert await invoke(toolbox, "add") == "3"
            assert await invoke(toolbox, qualified(server, "add")) == server.url


async def test_qualified_name_that_is_taken_gets_a_number() -> None:
    async with running("where") as one, running("where") as two:
        one.tools.append(tool(qualified(two, "where")))
        one.handlers[qualified(two, "where")] = _taken
        async with mcp_servers(one, two) as mcp:
            toolbox = Toolbox(mcp)
            assert await invoke(toolbox, qualified(two, "where")) == "taken"
            assert await invoke(toolbox, qualified(two, "where") + "_2") == two.url
            assert len(names(toolbox)) == 3


async def test_trace_context_of_the_caller_goes_along() -> None:
    context = CallContext(
        trace_headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    )
    async with running("echo") as server, mcp_servers(server) as mcp:
        await within(Toolbox(mcp).invoke(NAMESPACE, "echo", [], context))
    (request,) = server.calls("echo")
    assert request.headers["traceparent"] == context.trace_headers["traceparent"]


async def test_unknown_tools_and_namespaces() -> None:
    async with running("echo") as server, mcp_servers(server) as mcp:
        toolbox = Toolbox(mcp)
        assert toolbox.tools("unknown") is None
        for namespace, name in ((NAMESPACE, "nope"), ("unknown", "echo")):
            with pytest.raises(ToolFailed, match=f"Tool {name} not found on any server"):
                await toolbox.invoke(namespace, name, [])


async def test_removed_namespace_has_no_tools() -> None:
    async with running("echo") as server, mcp_servers(server) as mcp:
        toolbox = Toolbox(mcp)
        toolbox.set_native(NAMESPACE, ["add"])
        toolbox.remove(NAMESPACE)
        assert toolbox.tools(NAMESPACE) is None
        await within(server.deleted.wait())


async def _taken(*_: object) -> CallToolResult:
    return text("taken")
