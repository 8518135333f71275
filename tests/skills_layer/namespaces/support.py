"""Namespaces over the doubles of the skills layer, and a real server of descriptions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from pharia_kernel.config.namespaces import TeamOwnedNamespace
from pharia_kernel.config.registries import FileRegistryConfig
from pharia_kernel.config.tools import McpServer
from pharia_kernel.skills.namespaces import Config, Namespaces
from pharia_kernel.skills.registry.factory import Registries
from pharia_kernel.skills.signatures import Verifiers
from pharia_kernel.skills.types import NamespaceState, NamespaceStatus, SkillStatus
from tests.skills_layer.support import Kernel, kernel

NEVER = 3600.0
"""An interval that shows that a change was noticed without polling."""
OFTEN = 0.02
TOKEN = "hunter2-of-the-description"
GOOD = 'skills = [{ name = "greet" }]\n'
HANDLER = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ToolsTold:
    """What the namespaces told last; implements ``Tools``."""

    def __init__(self) -> None:
        self.mcp: dict[str, list[str]] = {}
        self.native: dict[str, list[str]] = {}
        self.calls = 0

    def configure(
        self, namespace: str, mcp_servers: Sequence[McpServer], native_tools: Sequence[str]
    ) -> None:
        self.calls += 1
        self.mcp[namespace] = [server.url for server in mcp_servers]
        self.native[namespace] = list(native_tools)

    def remove(self, namespace: str) -> None:
        del self.mcp[namespace], self.native[namespace]


class Following:
    """Namespaces that follow their descriptions, with the kernel beneath them."""

    def __init__(self, kernel: Kernel, namespaces: Namespaces, tools: ToolsTold) -> None:
        self.kernel = kernel
        self.namespaces = namespaces
        self.tools = tools

    def names(self) -> list[str]:
        return [str(info.path) for info in self.kernel.store.list()]

    def skill(self, path: str) -> SkillStatus | None:
        infos = self.kernel.store.list()
        return next((info.status for info in infos if str(info.path) == path), None)

    def status(self, name: str) -> NamespaceStatus:
        return next(s for s in self.namespaces.statuses() if s.name == name)

    def state(self, name: str) -> NamespaceState:
        return self.status(name).state

    def error(self, name: str) -> dict[str, Any]:
        error = self.status(name).error
        assert error is not None
        return error


@asynccontextmanager
async def following(
    configs: Mapping[str, Config],
    interval: float = NEVER,
    *,
    fetch_timeout: float = 30.0,
    unload_broken: bool = False,
    state_directory: Path | None = None,
    start: bool = True,
) -> AsyncGenerator[Following, None]:
    registries = Registries()
    tools = ToolsTold()
    async with kernel() as k:
        namespaces = Namespaces(
            configs,
            k.store,
            tools,
            registries,
            Verifiers(),
            interval=interval,
            fetch_timeout=fetch_timeout,
            unload_broken=unload_broken,
            state_directory=state_directory,
        )
        try:
            if start:
                await namespaces.start()
            yield Following(k, namespaces, tools)
        finally:
            await namespaces.close()
            await registries.close()


def team(url: str, components: Path, token: str | None = TOKEN, **more: Any) -> TeamOwnedNamespace:
    """A namespace whose description is elsewhere and whose components are files."""
    return TeamOwnedNamespace(
        config_url=url,
        config_access_token=token,  # type: ignore[arg-type]
        registry=FileRegistryConfig(path=components),
        **more,
    )


class DescriptionServer:
    """Serves one text under every path, with an ETag; ``handler`` does something else instead."""

    def __init__(self) -> None:
        self.text = GOOD
        self.etags = True
        self.handler: HANDLER | None = None
        self.requests: list[web.Request] = []
        self.statuses: list[int] = []
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/team/namespace.toml"

    async def start(self) -> None:
        """On the same port as before, if it was stopped."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    def answer(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        """From now on."""

        async def handler(_: web.Request) -> web.Response:
            return web.Response(status=status, headers=headers, text="Forbidden secrets.")

        self.handler = handler

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        response = await (self.handler or self._serve)(request)
        self.statuses.append(response.status)
        return response

    async def _serve(self, request: web.Request) -> web.Response:
        etag = f'"{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"'
        if self.etags and request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        response = web.Response(text=self.text, headers={"ETag": etag} if self.etags else None)
        response.enable_compression()
        return response


@asynccontextmanager
async def description_server() -> AsyncGenerator[DescriptionServer, None]:
    server = DescriptionServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError
