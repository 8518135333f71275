"""Which tools each namespace has, and what they are called.

A name means the native tool first, then the one of the first configured server that has it. A tool
whose name is taken is called ``<server>__<name>`` instead, after the server's host, port and path;
should even that be taken, ``_2``, ``_3``... is added. So names depend on the configuration and the
lists of the servers, and not on who answered first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, count
from typing import TYPE_CHECKING

from msgspec import Struct

from pharia_kernel.csi.types import Argument, CallContext, TextOutput, Tool
from pharia_kernel.drivers.tools.native import NATIVE_TOOLS
from pharia_kernel.errors import ToolFailed
from pharia_kernel.telemetry import tracing
from pharia_kernel.telemetry.tools import Execution

if TYPE_CHECKING:
    from pharia_kernel.drivers.tools.mcp import McpServers, ServerTools

log = logging.getLogger("pharia_kernel.tools")

_LONGEST_WAIT = 10.0
"""Seconds that the first calls after a start wait for servers to say what they have."""


class _McpTool(Struct, frozen=True):
    server: str
    """Its name in the namespace."""
    tool: Tool
    """As the server describes it."""


class Toolbox:
    def __init__(
        self,
        mcp: McpServers | None = None,
        settled: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """``mcp`` stays the caller's to configure, start and close; none: native tools only.

        ``settled`` waits until the servers of a namespace have been asked once what they have.
        """
        self._settled = settled
        self._native: dict[str, list[str]] = {}
        self._mcp = mcp
        self._collisions: dict[str, set[str]] = {}
        """Qualified names per namespace, so that each is warned of once."""

    def use(self, mcp: McpServers) -> None:
        """From now on the namespaces also have the tools of these servers."""
        self._mcp = mcp

    def set_native(self, namespace: str, names: Iterable[str]) -> None:
        """Make the namespace known, with these native tools; raises ``KeyError`` for a name that is
        none."""
        self._native[namespace] = [NATIVE_TOOLS[name].description.name for name in names]

    def remove(self, namespace: str) -> None:
        """Forget the namespace, its MCP servers included."""
        self._native.pop(namespace, None)
        self._collisions.pop(namespace, None)
        if self._mcp:
            self._mcp.remove(namespace)

    async def settle(self, namespace: str) -> None:
        """Wait, but not for ever, until it is known what the namespace's servers have."""
        if self._settled:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_WAIT):
                    await self._settled(namespace)

    def tools(self, namespace: str) -> list[Tool] | None:
        """Sorted by name; none if the namespace is unknown."""
        servers = self._mcp.tools(namespace) if self._mcp else None
        native = self._native.get(namespace)
        if native is None and servers is None:
            return None
        descriptions = {name: NATIVE_TOOLS[name].description for name in native or []}
        for name, entry in self._mcp_tools(namespace).items():
            tool = entry.tool
            descriptions[name] = Tool(name, tool.description, tool.input_schema)
        return [descriptions[name] for name in sorted(descriptions)]

    async def invoke(
        self,
        namespace: str,
        name: str,
        arguments: list[Argument],
        context: CallContext | None = None,
    ) -> list[TextOutput]:
        """The tool's output; raises ``ToolFailed`` if it fails or is not there."""
        if name in self._native.get(namespace, []):
            with Execution(namespace, name, arguments, mcp=False) as execution:
                return execution.returned(NATIVE_TOOLS[name].call(arguments))
        await self.settle(namespace)
        entry = self._mcp_tools(namespace).get(name)
        known = None if entry is None else name
        with Execution(namespace, known, arguments, mcp=True) as execution:
            if entry is None or self._mcp is None:
                raise unknown_tool(name)
            headers = tracing.headers(context.trace_headers if context else {})
            output = await self._mcp.call(
                namespace, entry.server, entry.tool.name, arguments, headers
            )
            return execution.returned(output)

    def _mcp_tools(self, namespace: str) -> dict[str, _McpTool]:
        """By the names they have in the namespace."""
        servers = (self._mcp.tools(namespace) if self._mcp else None) or []
        named: dict[str, _McpTool] = {}
        losers: list[_McpTool] = []
        for entry in _entries(servers):
            name = entry.tool.name
            if name in named or name in self._native.get(namespace, []):
                losers.append(entry)
            else:
                named[name] = entry
        qualified = _qualified(losers, taken={*named, *self._native.get(namespace, [])})
        self._warn(namespace, qualified)
        return {**named, **qualified}

    def _warn(self, namespace: str, qualified: dict[str, _McpTool]) -> None:
        known = self._collisions.get(namespace, set())
        self._collisions[namespace] = set(qualified)
        for name in qualified.keys() - known:
            log.warning(
                "Namespace %s has another tool called %s: that of MCP server %s is called %s",
                namespace,
                qualified[name].tool.name,
                qualified[name].server,
                name,
            )


def unknown_tool(name: str) -> ToolFailed:
    return ToolFailed(f"Tool {name} not found on any server.")


def _entries(servers: list[ServerTools]) -> Iterator[_McpTool]:
    for server in servers:
        for tool in server.tools:
            yield _McpTool(server.server, tool)


def _qualified(losers: list[_McpTool], taken: set[str]) -> dict[str, _McpTool]:
    qualified: dict[str, _McpTool] = {}
    for entry in losers:
        plain = f"{entry.server}__{entry.tool.name}"
        candidates = chain([plain], (f"{plain}_{number}" for number in count(2)))
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        qualified[name] = entry
    return qualified
