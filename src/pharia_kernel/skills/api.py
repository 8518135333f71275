"""The skills layer as the shell sees it."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    Caller,
    NamespaceDetail,
    NamespaceSummary,
    SkillInfo,
    SkillMetadata,
    StreamEvent,
)


class Skills(Protocol):
    """All methods raise ``KernelError`` subclasses. Cancelling a call cancels the run and its
    upstream calls.
    """

    async def run(self, path: SkillPath, body: bytes, caller: Caller) -> bytes:
        """Run a function skill on UTF-8 JSON; the answer is UTF-8 JSON."""
        ...

    async def message_stream(
        self, path: SkillPath, body: bytes, caller: Caller
    ) -> AsyncGenerator[StreamEvent, None]:
        """Resolve and admit the run (errors are raised here, before any event), then return its
        events.

        The generator raises a ``KernelError`` if the run fails after that; closing it cancels the
        run.
        """
        ...

    async def metadata(self, path: SkillPath, caller: Caller) -> SkillMetadata: ...

    def list(self) -> builtins.list[SkillInfo]:
        """All configured skills, sorted by namespace and name; without the built-in ones."""
        ...

    def cached(self) -> builtins.list[SkillPath]:
        """Skills that can run at once."""
        ...

    async def evict(self, path: SkillPath) -> bool:
        """Drop the skill from the cache and read it again from its registry; false if it was not
        there.
        """
        ...

    def tools(self, namespace: str) -> builtins.list[dict[str, Any]] | None:
        """Name, description and input schema of the namespace's tools; none if there is no such
        namespace.
        """
        ...

    def mcp_servers(self, namespace: str) -> builtins.list[str] | None:
        """URLs of the namespace's MCP servers; none if there is no such namespace."""
        ...

    def namespaces(self) -> builtins.list[NamespaceSummary]:
        """All configured namespaces, sorted by name."""
        ...

    def namespace(self, name: str) -> NamespaceDetail | None:
        """One of them with its skills; none if there is no such namespace."""
        ...

    def refresh(self, namespace: str) -> bool:
        """Have the namespace's description and the registries of its skills asked at once, in the
        background; false if there is no such namespace.
        """
        ...

    def readiness(self) -> dict[str, dict[str, Any]]:
        """State per component (``engines``, ``skills``, ``inference``...): each has ``ready: bool``
        and details.
        """
        ...
