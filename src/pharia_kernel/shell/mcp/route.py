"""Which requests the MCP endpoint takes."""

from __future__ import annotations

import asyncio
import re
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from pharia_kernel.config.authorization import is_loopback
from pharia_kernel.errors import Forbidden, NotFound
from pharia_kernel.shell.settings import ShellSettings
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.paths import check_namespace

if TYPE_CHECKING:
    from pharia_kernel.shell.mcp.endpoint import McpEndpoint

_ROUTE = re.compile(r"/mcp/([^/]+)")


class McpRoute:
    """ASGI application for the paths that it ``answers``."""

    def __init__(self, skills: Skills, settings: ShellSettings, version: str) -> None:
        self._skills = skills
        self._settings = settings
        self._version = version
        self._endpoint: McpEndpoint | None = None

    @staticmethod
    def answers(path: str) -> bool:
        return _ROUTE.fullmatch(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.fullmatch(scope["path"])
        assert route is not None
        namespace = check_namespace(route[1])
        if self._skills.namespace(namespace) is None:
            raise NotFound(f"Namespace `{namespace}` not found.", namespace=namespace)
        self._check_origin(dict(scope["headers"]).get(b"origin"))
        endpoint = await self._ready()
        await endpoint.serve(namespace, scope, receive, send)

    def _check_origin(self, origin: bytes | None) -> None:
        """Only pages that are trusted, which the transport demands against DNS rebinding."""
        if origin is None:
            return
        allowed = self._settings.cors_allow_origins
        text = origin.decode("latin-1")
        if "*" in allowed or text in allowed or is_loopback(_host(text)):
            return
        raise Forbidden("Pages of this origin are not in `cors-allow-origins`.")

    async def _ready(self) -> McpEndpoint:
        if self._endpoint is None:
            # The library takes longer to import than many kernels live without being asked, and
            # longer than other requests should wait.
            await asyncio.to_thread(import_module, "pharia_kernel.shell.mcp.endpoint")
            from pharia_kernel.shell.mcp.endpoint import McpEndpoint

            self._endpoint = McpEndpoint(self._skills, self._version, self._settings.max_body_size)
        return self._endpoint


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:  # no URL
        return ""
