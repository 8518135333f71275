"""Settings of MCP servers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pharia_kernel.config.values import Duration, HttpUrl, Secret, Table, expected


class McpServer(Table):
    """A server whose tools the skills of a namespace may call."""

    url: HttpUrl
    token: Secret | None = None
    """Bearer token for it."""
    headers: dict[str, Secret] = Field(default_factory=dict)
    """Sent with every request."""
    timeout: Duration = 60.0
    """Limit of one call of a tool."""

    def __hash__(self) -> int:
        return hash(self.url)


def _tell_form(value: Any) -> Any:
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, dict | McpServer):
        raise expected('a URL, or a table such as { url = "http://host/mcp", token = "..." }')
    return value


McpServerEntry = Annotated[McpServer, BeforeValidator(_tell_form)]
