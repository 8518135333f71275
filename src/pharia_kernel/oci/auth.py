"""Authorization at registries: basic, or access tokens (the Docker registry's token protocol)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from typing import Protocol

import msgspec
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

from pharia_kernel.errors import BadRegistryAnswer, RegistryUnauthorized
from pharia_kernel.oci.challenges import Challenge, best_challenge
from pharia_kernel.oci.credentials import Credentials, CredentialSource
from pharia_kernel.oci.sharing import SingleFlight
from pharia_kernel.oci.trouble import refusal

_CLIENT_ID = "pharia-kernel"
_DEFAULT_LIFETIME = 60.0
_USABLE_SHARE = 0.9
"""Of a token's lifetime; requests take time, and clocks differ."""
_MANY_TOKENS = 1000
_TOKEN_SERVICE = "an access token"  # noqa: S105

Reply = tuple[int, CIMultiDictProxy[str], bytes]


class Ask(Protocol):
    """One request without redirects; none of its errors holds what was sent."""

    def __call__(
        self, method: str, url: URL, headers: dict[str, str], form: dict[str, str] | None
    ) -> Awaitable[Reply]: ...


class _Token(Struct, frozen=True):
    header: str
    usable_until: float
    """On ``time.monotonic()``."""


class _TokenAnswer(Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float = _DEFAULT_LIFETIME


class Authorizer:
    """Knows what to send in ``Authorization``, and learns from refusals what the registry wants.

    Nothing is sent before the registry has asked for it. Credentials go to the registry itself
    (basic), or to the token service that it names.
    """

    def __init__(self, origin: URL, source: CredentialSource, ask: Ask) -> None:
        self._origin = origin
        self._source = source
        self._ask = ask
        self._challenges: dict[str, Challenge] = {}
        self._latest: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        self._basic: str | None = None
        self._flights: SingleFlight[str] = SingleFlight()

    @property
    def hint(self) -> str:
        return self._source.hint

    async def header(self, scope: str) -> str | None:
        """For a request within ``scope``, such as ``repository:team/greet:pull``.

        Raises ``RegistryUnauthorized`` if there are no credentials, or they are refused.
        """
        challenge = self._challenges.get(scope, self._latest)
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            return self._basic or await self._flights.do("", self._make_basic)
        token = self._tokens.get(scope)
        if token and time.monotonic() < token.usable_until:
            return token.header
        return await self._flights.do(scope, lambda: self._fetch(challenge, scope))

    async def refused(self, scope: str, challenges: Iterable[str], sent: str | None) -> bool:
        """The registry answered 401 to ``sent``; true if another attempt may do better."""
        challenge = best_challenge(challenges)
        if challenge is None:
            return False
        self._challenges[scope] = challenge
        self._latest = msgspec.structs.replace(challenge, scope="")
        if challenge.scheme == "basic":
            if self._basic == sent:
                self._basic = None
            # The same password again would only count as one more wrong attempt.
            return await self.header(scope) != sent
        token = self._tokens.get(scope)
        if token and token.header == sent:
            del self._tokens[scope]
        return True

    async def close(self) -> None:
        await self._flights.close()

    async def _make_basic(self) -> str:
        credentials = await self._source.get()
        if credentials is None:
            raise RegistryUnauthorized(
                f"The registry wants a user and a password: {self._source.hint}."
            )
        if credentials.identity_token:
            raise RegistryUnauthorized(
                f"The registry wants a user and a password, not a token: {self._source.hint}."
            )
        self._basic = credentials.basic()
        return self._basic

    # --- tokens ---

    async def _fetch(self, challenge: Challenge, scope: str) -> str:
        realm = self._realm(challenge)
        credentials = await self._source.get()
        wanted = challenge.scope or scope
        if credentials and credentials.identity_token:
            form = _refresh_form(credentials, challenge.service, wanted)
            reply = await self._ask("POST", realm, {}, form)
        else:
            headers = {"Authorization": credentials.basic()} if credentials else {}
            query = _query(credentials, challenge.service, wanted)
            reply = await self._ask("GET", realm.update_query(query), headers, None)
        token = self._token(*reply)
        self._forget_expired()
        self._tokens[scope] = token
        return token.header

    def _realm(self, challenge: Challenge) -> URL:
        """Where to get a token. The registry must not send the password over the wire in clear,
        unless it is asked in clear itself.
        """
        try:
            realm = URL(challenge.realm)
        except ValueError:
            realm = URL()
        in_clear = realm.scheme == "http" and self._origin.scheme == "http"
        safe = realm.scheme == "https" or (in_clear and realm.host == self._origin.host)
        if not (safe and realm.host) or realm.user is not None:
            raise BadRegistryAnswer(
                "The registry sends us to a token service that has no https:// address."
            )
        return realm

    def _token(self, status: int, headers: CIMultiDictProxy[str], body: bytes) -> _Token:
        if status != 200:
            # What the token service says about a refused login is 400 or 401, depending on it.
            status = 401 if status == 400 else status
            raise refusal(status, headers, body, _TOKEN_SERVICE, self._source.hint)
        try:
            answer = msgspec.json.decode(body, type=_TokenAnswer, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            answer = _TokenAnswer()
        token = answer.token or answer.access_token
        if not token or not (token.isascii() and token.isprintable()):
            raise BadRegistryAnswer("The registry's token service answers without a token.")
        lifetime = max(answer.expires_in, 0.0) * _USABLE_SHARE
        return _Token(f"Bearer {token}", time.monotonic() + lifetime)

    def _forget_expired(self) -> None:
        if len(self._tokens) >= _MANY_TOKENS:
            now = time.monotonic()
            self._tokens = {s: t for s, t in self._tokens.items() if now < t.usable_until}


def _query(credentials: Credentials | None, service: str, scope: str) -> list[tuple[str, str]]:
    query = [("service", service)] if service else []
    query += [("scope", part) for part in scope.split()]
    if credentials:
        query.append(("account", credentials.user))
    return query


def _refresh_form(credentials: Credentials, service: str, scope: str) -> dict[str, str]:
    """RFC 6749, section 6, with the parameters that token services of registries add."""
    return {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": scope,
        "refresh_token": credentials.identity_token,
    }
