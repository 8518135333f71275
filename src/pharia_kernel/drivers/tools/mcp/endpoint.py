"""Where an MCP server is, how to prove who is asking, and what to call it in public."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

_AUTHORIZATION = "authorization"
_NO_PART_OF_A_NAME = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class McpServerConfig:
    """One server as a namespace is configured to use it."""

    url: str = field(repr=False)
    """Of the Streamable HTTP endpoint. May hold a user and a password, for basic authentication."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request."""
    token: str | None = field(default=None, repr=False)
    """Bearer token, without the scheme."""
    timeout: float = 60.0
    """Seconds that one call of a tool may take, all waiting included."""
    connect_timeout: float = 10.0
    """Seconds that opening a session may take. Of namespaces that share one, the largest counts."""
    guarded: bool = False
    """The operator did not choose this URL: connect only as far as the outbound policy permits."""


@dataclass(frozen=True)
class Endpoint:
    """What makes two configurations the same server: address and credentials."""

    url: str = field(repr=False)
    """Without user and password; may still hold secrets in its query."""
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    label: str
    """``host:port``, for messages."""
    public_url: str
    """Without anything that could be a secret: user, password, query and fragment."""
    name: str
    """The beginning of a tool's qualified name: host, port and path in letters, digits and ``_``.

    The path's last part is left out if it is the customary ``mcp``.
    """
    guarded: bool = False
    """The outbound policy applies. Part of the identity: what the policy forbids for one namespace
    is not to be had through the session of another."""

    @classmethod
    def of(cls, config: McpServerConfig) -> Endpoint:
        """Raises ``ValueError`` if the URL is not an absolute HTTP URL, or if there is more than
        one way to authenticate."""
        parts = urlsplit(config.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("The URL of an MCP server must be an absolute HTTP or HTTPS URL.")
        label = _host_and_port(parts)
        return cls(
            url=urlunsplit(parts._replace(netloc=label, fragment="")),
            headers=tuple(sorted(_headers(config, parts, label).items())),
            label=label,
            public_url=urlunsplit((parts.scheme, label, parts.path, "", "")),
            name=_name(parts),
            guarded=config.guarded,
        )


def _host_and_port(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{host}:{parts.port}" if parts.port is not None else host


def _headers(config: McpServerConfig, parts: SplitResult, label: str) -> dict[str, str]:
    headers = {name.lower(): value for name, value in config.headers.items()}
    credentials = [headers[_AUTHORIZATION]] if _AUTHORIZATION in headers else []
    if config.token is not None:
        credentials.append(f"Bearer {config.token}")
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials.append(f"Basic {base64.b64encode(pair.encode()).decode()}")
    if len(credentials) > 1:
        raise ValueError(
            f"MCP server {label} is given more than one way to authenticate: keep one of the "
            "token, the `Authorization` header, and the user in the URL."
        )
    return {**headers, _AUTHORIZATION: credentials[0]} if credentials else headers


def _name(parts: SplitResult) -> str:
    path = parts.path.rstrip("/").removesuffix("/mcp")
    words = f"{_host_and_port(parts)}{path}"
    return _NO_PART_OF_A_NAME.sub("_", words).strip("_")
