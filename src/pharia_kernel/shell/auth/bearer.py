"""The bearer token of a request (RFC 6750); nothing is verified here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pharia_kernel.errors import InvalidToken
from pharia_kernel.shell.trace import trace_headers
from pharia_kernel.skills.types import Caller

LONGEST_TOKEN = 16 * 1024
"""Characters. Longer ones are refused before anything is computed of them."""


def caller_of(headers: Mapping[bytes, bytes]) -> Caller:
    """The caller as the request's headers (lower-case names) present them."""
    return Caller(
        token=_bearer_token(headers.get(b"authorization", b"")),
        trace_headers=trace_headers(headers),
    )


def check_length(token: str) -> None:
    if len(token) > LONGEST_TOKEN:
        raise InvalidToken(f"The token is longer than {LONGEST_TOKEN} characters.")


def digest(token: str) -> bytes:
    """By which caches know a token, so that they hold none."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _bearer_token(authorization: bytes) -> str | None:
    scheme, _, token = authorization.decode("latin-1").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
