"""Which namespace uses which MCP servers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from itertools import chain, count

from msgspec import Struct

from pharia_kernel.csi.types import Argument, TextOutput, Tool
from pharia_kernel.drivers.tools.mcp.content import decode_arguments, text_of
from pharia_kernel.drivers.tools.mcp.endpoint import Endpoint, McpServerConfig
from pharia_kernel.drivers.tools.mcp.server import HealthState, Policy, Server
from pharia_kernel.drivers.tools.mcp.signal import Signal
from pharia_kernel.errors import ToolFailed
from pharia_kernel.outbound import OutboundPolicy

log = logging.getLogger("pharia_kernel.tools")


class ServerTools(Struct, frozen=True):
    """What one server offers to a namespace."""

    server: str
    """Its name in the namespace."""
    tools: list[Tool]
    """In the server's order, without duplicates."""


class ServerHealth(Struct, frozen=True, kw_only=True):
    url: str
    """Without credentials and query."""
    namespaces: list[str]
    state: HealthState
    since: float
    """Unix time at which the state began."""
    error: str | None
    """Why it is failing."""
    tools: int
    """How many it offers."""
    protocol_version: str | None
    """As negotiated for the open session, if there is one."""


class _Use(Struct, frozen=True):
    config: McpServerConfig
    server: Server


class McpServers:
    """The servers of all namespaces; those with the same URL and credentials share a session.

    Nothing connects before ``start``. For one event loop.
    """

    def __init__(
        self, policy: Policy | None = None, outbound: OutboundPolicy | None = None
    ) -> None:
        """``outbound`` limits where the sessions of guarded servers lead; none: its defaults."""
        self._policy = policy or Policy()
        self._outbound = outbound or OutboundPolicy()
        self._uses: dict[str, dict[str, _Use]] = {}
        self._servers: dict[Endpoint, Server] = {}
        self._leaving: dict[Server, asyncio.Task[None]] = {}
        self._started = False
        self._changed = Signal()

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect to the servers, in the background; see ``settled``."""
        self._started = True
        for server in self._servers.values():
            server.start()

    async def close(self) -> None:
        """End all calls and close all sessions; takes a few seconds if a server does not react."""
        self._started = False
        servers = [*self._servers.values(), *self._leaving]
        self._servers.clear()
        self._uses.clear()
        await asyncio.gather(*(server.close() for server in servers))
        await asyncio.gather(*self._leaving.values())

    async def settled(self, namespace: str | None = None) -> None:
        """Wait until every server, or every one of the namespace, has been tried once. Never ends
        before ``start``."""
        while not all(server.tried for server in self._of(namespace)):
            await self._changed.wait()

    def _of(self, namespace: str | None) -> list[Server]:
        if namespace is None:
            return list(self._servers.values())
        return [use.server for use in self._uses.get(namespace, {}).values()]

    async def changed(self) -> None:
        """Wait until a list of tools or a state of health changes."""
        await self._changed.wait()

    # --- configuration ----------------------------------------------------------------------------

    def configure(self, namespace: str, servers: Iterable[McpServerConfig]) -> None:
        """From now on, the namespace uses these servers, in this order of precedence.

        Makes the namespace known, also without any server. Sessions that nobody uses any more are
        closed once their calls have ended. Raises ``ValueError``, and changes nothing, if a
        configuration makes no sense.
        """
        configs: dict[Endpoint, McpServerConfig] = {}
        for config in servers:
            configs.setdefault(Endpoint.of(config), config)
        self._uses[namespace] = {
            name: _Use(configs[endpoint], self._server(endpoint))
            for name, endpoint in _named(configs).items()
        }
        self._drop_unused()
        self._changed.fire()

    def remove(self, namespace: str) -> None:
        """Forget the namespace."""
        self._uses.pop(namespace, None)
        self._drop_unused()
        self._changed.fire()

    def _server(self, endpoint: Endpoint) -> Server:
        if endpoint not in self._servers:
            outbound = self._outbound if endpoint.guarded else None
            self._servers[endpoint] = Server(endpoint, self._policy, self._changed.fire, outbound)
            if self._started:
                self._servers[endpoint].start()
        return self._servers[endpoint]

    def _drop_unused(self) -> None:
        timeouts: dict[Endpoint, list[float]] = {}
        for uses in self._uses.values():
            for use in uses.values():
                timeouts.setdefault(use.server.endpoint, []).append(use.config.connect_timeout)
        for endpoint, server in list(self._servers.items()):
            if endpoint in timeouts:
                server.connect_timeout = max(timeouts[endpoint])
            else:
                self._release(self._servers.pop(endpoint))

    def _release(self, server: Server) -> None:
        if self._started:
            self._leaving[server] = asyncio.create_task(server.retire())
            self._leaving[server].add_done_callback(lambda _: self._leaving.pop(server))

    # --- use --------------------------------------------------------------------------------------

    def urls(self, namespace: str) -> list[str] | None:
        """Sorted, without credentials and queries; none if the namespace is unknown."""
        uses = self._uses.get(namespace)
        if uses is None:
            return None
        return sorted(use.server.endpoint.public_url for use in uses.values())

    def tools(self, namespace: str) -> list[ServerTools] | None:
        """What the servers offer, in their order of precedence; none if the namespace is
        unknown."""
        uses = self._uses.get(namespace)
        if uses is None:
            return None
        return [ServerTools(name, use.server.tools) for name, use in uses.items()]

    async def call(
        self,
        namespace: str,
        server: str,
        tool: str,
        arguments: Iterable[Argument],
        trace_headers: dict[str, str] | None = None,
    ) -> list[TextOutput]:
        """Call a tool of the server with this name in the namespace.

        Raises ``ToolFailed``. Cancelling it cancels the request at the server, and nothing else.
        """
        use = self._uses.get(namespace, {}).get(server)
        if use is None:
            raise ToolFailed(f"Tool {tool} not found on any server.")
        result = await use.server.call(
            tool,
            decode_arguments(arguments),
            seconds=use.config.timeout,
            tenant=namespace,
            headers=trace_headers or {},
        )
        return text_of(tool, result)

    def health(self) -> list[ServerHealth]:
        """Of every server that a namespace uses, sorted by URL."""
        namespaces: dict[Endpoint, list[str]] = {endpoint: [] for endpoint in self._servers}
        for namespace in sorted(self._uses):
            for use in self._uses[namespace].values():
                namespaces[use.server.endpoint].append(namespace)
        servers = [_health(self._servers[e], names) for e, names in namespaces.items()]
        return sorted(servers, key=lambda health: health.url)


def _health(server: Server, namespaces: list[str]) -> ServerHealth:
    return ServerHealth(
        url=server.endpoint.public_url,
        namespaces=namespaces,
        state=server.state,
        since=server.since,
        error=server.error,
        tools=len(server.tools),
        protocol_version=server.protocol_version,
    )


def _named(endpoints: Iterable[Endpoint]) -> dict[str, Endpoint]:
    """By a name that is unique: of servers with the same name, later ones get ``_2``, ``_3``..."""
    named: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        candidates = (f"{endpoint.name}_{number}" for number in count(2))
        named[next(name for name in chain([endpoint.name], candidates) if name not in named)] = (
            endpoint
        )
    return named
