"""What a namespace wants: skills, MCP servers, native tools."""

from __future__ import annotations

from msgspec import Struct

from pharia_kernel.config.tools import McpServer
from pharia_kernel.skills.store import Source


class Description(Struct, frozen=True, kw_only=True):
    """The skills are told by their names."""

    skills: dict[str, Source]
    mcp_servers: list[McpServer]
    native_tools: list[str]
    warnings: list[str]
    """What the description has that is without effect."""

    def same_tools(self, other: Description) -> bool:
        return (self.mcp_servers, self.native_tools) == (other.mcp_servers, other.native_tools)


class Difference(Struct, frozen=True):
    """Between two descriptions: numbers of skills."""

    added: int
    changed: int
    removed: int
    tools: bool
    """Whether there are other tools."""

    @classmethod
    def between(cls, old: Description | None, new: Description) -> Difference:
        before = old.skills if old else {}
        common = before.keys() & new.skills.keys()
        return cls(
            added=len(new.skills.keys() - before.keys()),
            changed=sum(before[name] != new.skills[name] for name in common),
            removed=len(before.keys() - new.skills.keys()),
            tools=old is not None and not new.same_tools(old),
        )

    def __str__(self) -> str:
        skills = f"skills: {self.added} added, {self.changed} changed, {self.removed} removed"
        return f"{skills}; other tools" if self.tools else skills
