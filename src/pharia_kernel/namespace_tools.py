"""The tools that namespaces bring: native ones, and those of MCP servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from pharia_kernel.config.tools import McpServer
from pharia_kernel.config.values import without_credentials
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.outbound import OutboundPolicy

if TYPE_CHECKING:
    from pharia_kernel.drivers.tools.mcp import McpServerConfig, McpServers, ServerHealth

logger = logging.getLogger("pharia_kernel.tools")


class NamespaceTools:
    """Follows what the namespaces' descriptions say, while the kernel runs.

    The MCP SDK takes half a second to import, so it is imported, off the event loop, when the first
    namespace needs it. ``guarded`` tells of a namespace whether somebody chose its servers who may
    not reach everything that the kernel can reach: to those, the ``outbound`` policy applies.
    """

    def __init__(self, guarded: Callable[[str], bool], outbound: OutboundPolicy) -> None:
        self.toolbox = Toolbox(settled=self._settled)
        self._guarded = guarded
        self._outbound = outbound
        self._servers: dict[str, list[McpServer]] = {}
        self._mcp: McpServers | None = None
        self._starting: asyncio.Task[None] | None = None

    # --- told by the namespaces -------------------------------------------------------------------

    def expect(self, namespaces: Iterable[str]) -> None:
        """These exist, but what they have is not known yet."""
        for namespace in namespaces:
            if namespace not in self._servers:
                self.configure(namespace, (), ())

    def configure(
        self, namespace: str, mcp_servers: Sequence[McpServer], native_tools: Sequence[str]
    ) -> None:
        """From now on the namespace has these tools and no others."""
        self.toolbox.set_native(namespace, native_tools)
        self._servers[namespace] = list(mcp_servers)
        if self._mcp:
            self._apply(self._mcp, namespace)
        elif mcp_servers and self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="MCP servers")

    def remove(self, namespace: str) -> None:
        self._servers.pop(namespace, None)
        self.toolbox.remove(namespace)

    # --- asked by others --------------------------------------------------------------------------

    def urls(self, namespace: str) -> list[str] | None:
        """Of the namespace's MCP servers, sorted, without credentials; none if it is unknown."""
        servers = self._servers.get(namespace)
        if servers is None:
            return None
        return sorted(without_credentials(server.url) for server in servers)

    def health(self) -> list[ServerHealth]:
        """Of each MCP server in use."""
        return self._mcp.health() if self._mcp else []

    async def close(self) -> None:
        if self._starting:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._mcp:
            await self._mcp.close()

    async def _settled(self, namespace: str) -> None:
        """Wait until its servers have been asked once what they have."""
        if not self._servers.get(namespace):
            return
        if self._starting:
            await asyncio.wait({self._starting})
        if self._mcp:
            await self._mcp.settled(namespace)

    # --- MCP --------------------------------------------------------------------------------------

    async def _start(self) -> None:
        try:
            await asyncio.to_thread(import_module, "pharia_kernel.drivers.tools.mcp")
            from pharia_kernel.drivers.tools.mcp import McpServers

            self._mcp = McpServers(outbound=self._outbound)
            await self._mcp.start()
        except Exception:
            logger.exception("MCP servers can't be used")
            return
        self.toolbox.use(self._mcp)
        for namespace in self._servers:
            self._apply(self._mcp, namespace)

    def _apply(self, mcp: McpServers, namespace: str) -> None:
        mcp.configure(namespace, self._usable(namespace))

    def _usable(self, namespace: str) -> Iterator[McpServerConfig]:
        from pharia_kernel.drivers.tools.mcp import Endpoint

        for server in self._servers[namespace]:
            config = _config(server, guarded=self._guarded(namespace))
            try:
                Endpoint.of(config)
            except ValueError as error:
                logger.error("Namespace %s: an MCP server can't be used: %s", namespace, error)
            else:
                yield config


def _config(server: McpServer, *, guarded: bool) -> McpServerConfig:
    from pharia_kernel.drivers.tools.mcp import McpServerConfig

    return McpServerConfig(
        url=server.url,
        headers={name: value.get_secret_value() for name, value in server.headers.items()},
        token=server.token.get_secret_value() if server.token else None,
        timeout=server.timeout,
        guarded=guarded,
    )
