"""What a registry wants to see: ``WWW-Authenticate`` (RFC 9110, section 11)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105
_PART = re.compile(
    rf"[\s,]*(?:(?P<key>{_TOKEN})\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>[^\s,\"]+))"
    rf"|(?P<scheme>{_TOKEN})(?=\s|,|$))"
)


class Challenge(Struct, frozen=True):
    scheme: str
    """In lower case."""
    realm: str = ""
    service: str = ""
    scope: str = ""


def best_challenge(headers: Iterable[str]) -> Challenge | None:
    """The one to meet among all that were offered: a token rather than the password itself."""
    offered = [challenge for header in headers for challenge in _parse(header)]
    for scheme in ("bearer", "basic"):
        for challenge in offered:
            if challenge.scheme == scheme:
                return challenge
    return None


def _parse(header: str) -> Iterator[Challenge]:
    """Challenges up to where the header stops making sense."""
    scheme: str | None = None
    parameters: dict[str, str] = {}
    position = 0
    while part := _PART.match(header, position):
        position = part.end()
        if part["scheme"]:
            if scheme:
                yield _challenge(scheme, parameters)
            scheme, parameters = part["scheme"].lower(), {}
        else:
            quoted = part["quoted"]
            value = part["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(part["key"].lower(), value)
    if scheme:
        yield _challenge(scheme, parameters)


def _challenge(scheme: str, parameters: dict[str, str]) -> Challenge:
    known = {key: parameters.get(key, "") for key in ("realm", "service", "scope")}
    return Challenge(scheme, **known)
