"""The keys with which an OpenID provider signs (RFC 7517), fetched and kept fresh."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import Key, RSAKey, import_key
from joserfc.jws import JWSRegistry
from msgspec import Struct

from pharia_kernel.config.authorization import is_trustworthy
from pharia_kernel.errors import AuthorizationUnavailable
from pharia_kernel.shell.auth.http import USUAL_TIMEOUT, Session, read_bounded

USUAL_LIFETIME = 600.0
SHORTEST_LIFETIME = 60.0
LONGEST_LIFETIME = 3600.0
"""Seconds between refreshes, whatever the provider says: a key that it takes back must go."""
LONGEST_STALE = 24 * 3600.0
"""Seconds for which the last keys serve while the provider cannot be reached."""
PAUSE = 10.0
"""Seconds between attempts to fetch the keys, as long as none succeeds or tokens have keys that the
provider does not know."""
SMALLEST_RSA_KEY = 2048
"""Bits, as RFC 7518 demands."""
_LONGEST_DOCUMENT = 1 << 20
_MOST_KEYS = 32
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])")
_DISCOVERY = "/.well-known/openid-configuration"

_log = logging.getLogger(__name__)


class Keys:
    """The usable keys of a set."""

    def __init__(self, keys: list[Key]) -> None:
        self._keys = keys
        self.ids = frozenset(key.thumbprint() for key in keys)
        """Thumbprints (RFC 7638)."""

    def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """Keys that may have signed with the algorithm; those of that id, if the token has one."""
        named = [key for key in self._keys if kid is None or key.kid == kid]
        return [key for key in named if _fits(key, algorithm)]


class _Fetched(Struct, frozen=True):
    keys: Keys
    at: float
    lifetime: float


class ProviderKeys:
    """The keys of one provider.

    They are fetched when somebody needs them, and again in the background before they get old, so
    that no request waits. If the provider fails, the last ones serve on.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None = None,
        *,
        timeout: float = USUAL_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without ``jwks_url``, the discovery document of the issuer tells it."""
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._timeout = timeout
        self._clock = clock
        self._fetched: _Fetched | None = None
        self._attempted_at: float | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._session = Session()
        self.generation = 0
        """Grows when the keys have become others."""

    async def current(self) -> Keys:
        """Raises ``AuthorizationUnavailable`` if there are none."""
        age = self._age()
        fetched = self._fetched
        if fetched is None or age >= fetched.lifetime:
            await self._refresh()
        elif age >= 0.8 * fetched.lifetime:
            self._begin()
        if self._fetched is None or self._age() >= LONGEST_STALE:
            raise self._unavailable()
        return self._fetched.keys

    def usable(self) -> bool:
        """Whether what was verified with the present keys still counts. Begins to fetch them again
        before they get old."""
        if self._fetched is None:
            return False
        if self._age() >= 0.8 * self._fetched.lifetime:
            self._begin()
        return self._age() < LONGEST_STALE

    async def candidates(self, kid: str | None, algorithm: str) -> list[Key]:
        """Keys that may have signed so. A new key of the provider is found, too."""
        found = (await self.current()).candidates(kid, algorithm)
        if found:
            return found
        await self._refresh()
        return (await self.current()).candidates(kid, algorithm)

    async def prefetch(self) -> None:
        """Fetch them before anybody needs them. Failures are only logged."""
        await self._refresh()

    async def close(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)
        await self._session.close()

    # --- when to fetch ----------------------------------------------------------------------------

    def _age(self) -> float:
        return self._clock() - self._fetched.at if self._fetched else 0.0

    def _pause(self) -> float:
        """Seconds until the next attempt is allowed."""
        if self._attempted_at is None:
            return 0.0
        return max(0.0, self._attempted_at + PAUSE - self._clock())

    async def _refresh(self) -> None:
        """Fetch, or wait for who is fetching; nothing happens within ``PAUSE``."""
        self._begin()
        if self._attempt is not None:
            await asyncio.wait([self._attempt])

    def _begin(self) -> None:
        if self._attempt is None and self._pause() == 0.0:
            self._attempted_at = self._clock()
            self._attempt = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        """Failures are logged; what was fetched before stays."""
        try:
            async with asyncio.timeout(self._timeout):
                fetched = await self._download()
        except TimeoutError:
            _log.error("Cannot get the keys of %s: no answer in time", self._issuer)
        except (aiohttp.ClientError, _Unusable) as error:
            _log.error("Cannot get the keys of %s: %s", self._issuer, error or type(error).__name__)
        else:
            if self._fetched is None or self._fetched.keys.ids != fetched.keys.ids:
                self.generation += 1
            self._fetched = fetched
        finally:
            self._attempt = None

    def _unavailable(self) -> AuthorizationUnavailable:
        return AuthorizationUnavailable(
            "The token could not be checked: the keys of the OpenID provider cannot be had. "
            "Try again later; if it persists, tell the operators of this kernel.",
            retry_after=max(1.0, self._pause()),
        )

    # --- fetching ---------------------------------------------------------------------------------

    async def _download(self) -> _Fetched:
        url = self._jwks_url or await self._discovered()
        document, lifetime = await self._get(url)
        found = document.get("keys")
        if not isinstance(found, list):
            raise _Unusable(f"{url} answered with no key set")
        keys = [key for jwk in found[:_MOST_KEYS] if (key := _usable(jwk, self._issuer))]
        if not keys:
            raise _Unusable(f"{url} has no key that can be used")
        return _Fetched(Keys(keys), self._clock(), lifetime)

    async def _discovered(self) -> str:
        """``jwks_uri`` of the provider's metadata (OpenID Connect Discovery 1.0, section 4)."""
        url = self._issuer.rstrip("/") + _DISCOVERY
        document, _ = await self._get(url)
        if document.get("issuer") != self._issuer:
            raise _Unusable(f"{url} is of another issuer than `oidc.issuer` says")
        jwks_url = document.get("jwks_uri")
        if not isinstance(jwks_url, str) or not is_trustworthy(jwks_url):
            raise _Unusable(f"{url} names no https:// URL of keys")
        return jwks_url

    async def _get(self, url: str) -> tuple[dict[str, Any], float]:
        """The JSON object at the URL, and for how many seconds it is good."""
        accepted = {"Accept": "application/json"}
        async with self._session.get().get(url, headers=accepted, allow_redirects=False) as answer:
            if answer.status != 200:
                raise _Unusable(f"{url} answered with status {answer.status}")
            body = await read_bounded(answer, _LONGEST_DOCUMENT)
        try:
            document = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            raise _Unusable(f"{url} did not answer with a JSON object: {error}") from None
        return document, _lifetime(answer.headers.get("Cache-Control", ""))


class _Unusable(Exception):
    """The provider's answer makes no sense."""


def _lifetime(cache_control: str) -> float:
    match = _MAX_AGE.search(cache_control.lower())
    wanted = float(match[1]) if match else USUAL_LIFETIME
    return min(max(wanted, SHORTEST_LIFETIME), LONGEST_LIFETIME)


def _usable(jwk: Any, issuer: str) -> Key | None:
    """The key, if it is one to verify signatures with."""
    try:
        if jwk["kty"] not in ("RSA", "EC") or jwk.get("use", "sig") != "sig":
            return None
        if "verify" not in jwk.get("key_ops", ["verify"]):
            return None
        key = import_key(jwk)
    except Exception as error:  # the library lets all kinds through, and other keys may be good
        _log.warning("A key of %s is malformed and is left out: %r", issuer, error)
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size < SMALLEST_RSA_KEY:
        _log.warning("A key of %s is left out: RSA with %d bits", issuer, key.raw_value.key_size)
        return None
    return key


def _fits(key: Key, algorithm: str) -> bool:
    try:
        JWSRegistry.algorithms[algorithm].check_key(key)
    except JoseError:
        return False
    return True
