"""API keys that the kernel itself checks."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from pharia_kernel.config.authorization import API_KEY_PREFIX, ApiKey, hash_api_key
from pharia_kernel.errors import InvalidToken
from pharia_kernel.shell.auth.permissions import Grants, Identity


def _now() -> datetime:
    return datetime.now(UTC)


class _Key(Struct, frozen=True):
    name: str
    config: ApiKey
    identity: Identity


class ApiKeys:
    """The keys of the settings, by name."""

    def __init__(
        self, configured: Mapping[str, ApiKey], *, clock: Callable[[], datetime] = _now
    ) -> None:
        self._by_hash = {
            key.hash: _Key(name, key, _identity(name, key)) for name, key in configured.items()
        }
        self._clock = clock

    @staticmethod
    def recognise(token: str) -> bool:
        """Whether the token has the form of an API key, and is nobody else's business."""
        return token.startswith(API_KEY_PREFIX)

    def identify(self, token: str) -> Identity:
        """Raises ``InvalidToken``."""
        given = hash_api_key(token)
        # What the search's time could tell is about hashes, and nobody can choose those.
        key = self._by_hash.get(given)
        if key is None or not hmac.compare_digest(key.config.hash, given):
            raise InvalidToken("The API key is unknown.")
        expires = key.config.expires
        if expires is not None and self._clock() >= expires:
            raise InvalidToken(f"The API key `{key.name}` expired at {expires.isoformat()}.")
        return key.identity


def _identity(name: str, key: ApiKey) -> Identity:
    grants = Grants.of((permission, key.namespaces) for permission in key.permissions)
    # It opens this kernel and is no backend's business.
    return Identity(f"api-key {name}", grants, forwards_token=False)
