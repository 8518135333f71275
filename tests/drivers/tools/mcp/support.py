"""What the tests of MCP servers have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from pharia_kernel.csi.types import Argument
from pharia_kernel.drivers.tools.mcp import McpServerConfig, McpServers, Policy, ServerHealth
from tests.support.mcp_servers import ToolServer

T = TypeVar("T")

DEADLINE = 20.0
"""Seconds after which a test gives up waiting for what must happen."""
NAMESPACE = "playground"
QUICK = Policy(refresh_interval=0.05, first_pause=0.01, longest_pause=0.05)
"""Notices everything soon."""


async def within(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, DEADLINE)


@asynccontextmanager
async def mcp_servers(
    *servers: ToolServer | McpServerConfig, policy: Policy | None = None
) -> AsyncGenerator[McpServers, None]:
    """Started, with these servers in ``NAMESPACE``, each tried once."""
    mcp = McpServers(policy)
    mcp.configure(NAMESPACE, [config_of(server) for server in servers])
    await mcp.start()
    try:
        await within(mcp.settled())
        yield mcp
    finally:
        await within(mcp.close())


def config_of(server: ToolServer | McpServerConfig, **options: Any) -> McpServerConfig:
    if isinstance(server, McpServerConfig):
        return server
    return McpServerConfig(url=server.url, **options)


async def until(mcp: McpServers, holds: Callable[[], bool]) -> None:
    """Wait for something that comes with a change of a list or of health."""

    async def wait() -> None:
        while not holds():
            await mcp.changed()

    await within(wait())


def names(mcp: McpServers, namespace: str = NAMESPACE) -> list[str]:
    """Of the tools of all servers."""
    return [tool.name for server in mcp.tools(namespace) or [] for tool in server.tools]


def health(mcp: McpServers) -> ServerHealth:
    """Of the only server."""
    (only,) = mcp.health()
    return only


def arguments(**values: object) -> list[Argument]:
    return [Argument(name, Raw(msgspec.json.encode(value))) for name, value in values.items()]


async def call(
    mcp: McpServers, tool: str, *, headers: dict[str, str] | None = None, **values: object
) -> list[str]:
    """The texts that a tool of the namespace's first server returns."""
    (first, *_) = mcp.tools(NAMESPACE) or []
    outputs = await within(
        mcp.call(NAMESPACE, first.server, tool, arguments(**values), headers or {})
    )
    return [output.text for output in outputs]
