"""Which of the configured authorizers a token is for, and what it says of the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from pharia_kernel.config.authorization import API_KEY_PREFIX, ApiKey, Oidc
from pharia_kernel.errors import InvalidToken, Unauthenticated
from pharia_kernel.shell.auth.bearer import check_length
from pharia_kernel.shell.auth.iam import IamAuthorizer
from pharia_kernel.shell.auth.keys import ApiKeys
from pharia_kernel.shell.auth.permissions import EVERYTHING, Identity, Principal
from pharia_kernel.skills.types import Caller

if TYPE_CHECKING:
    from pharia_kernel.shell.auth.oidc import OidcAuthorizer

ANYBODY = Identity("anybody", EVERYTHING, forwards_token=True)
"""Every caller of a kernel without authorization."""


class AuthorizationSettings(Protocol):
    @property
    def authorization_url(self) -> str | None: ...
    @property
    def authorization_cache(self) -> float: ...
    @property
    def authorization_grace(self) -> float: ...
    @property
    def api_keys(self) -> Mapping[str, ApiKey]: ...
    @property
    def oidc(self) -> Oidc | None: ...


class Authorizer(Protocol):
    async def authenticate(self, caller: Caller) -> Principal:
        """Who that is. Raises ``Unauthenticated``, ``InvalidToken``, ``Forbidden`` or
        ``AuthorizationUnavailable``.
        """
        ...

    async def close(self) -> None: ...


class Authorizers:
    """All that the settings name; if they name none, everybody may do everything.

    The form of a token tells whose it is: API keys have a prefix, the JWTs of the OpenID provider
    name it as their issuer, and IAM is asked about the rest. No token is shown to two of them.
    """

    def __init__(self, settings: AuthorizationSettings) -> None:
        self._settings = settings
        self._keys = _api_keys(settings)
        self._oidc = _oidc(settings)
        self._iam = _iam(settings)

    async def start(self) -> None:
        """Get what is needed to verify tokens. Failures are only logged, and it is tried again."""
        if self._oidc:
            await self._oidc.start()

    async def close(self) -> None:
        await _close(self._oidc, self._iam)

    async def reconfigure(self, settings: AuthorizationSettings) -> None:
        """Use other settings from now on. What they leave as it is keeps what it remembers.

        Requests that are admitted already are not touched.
        """
        old = self._settings
        outdated: list[OidcAuthorizer | IamAuthorizer | None] = []
        self._settings = settings
        self._keys = _api_keys(settings)
        if settings.oidc != old.oidc:
            outdated.append(self._oidc)
            self._oidc = _oidc(settings)
        if _iam_settings(settings) != _iam_settings(old):
            outdated.append(self._iam)
            self._iam = _iam(settings)
        await _close(*outdated)

    async def authenticate(self, caller: Caller) -> Principal:
        if not (self._keys or self._oidc or self._iam):
            return Principal.of(ANYBODY, caller)
        if caller.token is None:
            raise Unauthenticated(
                "Bearer token expected: send it in the header `Authorization: Bearer <token>`."
            )
        check_length(caller.token)
        return Principal.of(await self._identify(caller.token, caller.trace_headers), caller)

    async def _identify(self, token: str, trace_headers: dict[str, str]) -> Identity:
        if self._keys and self._keys.recognise(token):
            return self._keys.identify(token)
        if self._oidc:
            if known := self._oidc.known(token):
                return known
            if jwt := self._oidc.recognise(token):
                return await self._oidc.identify(token, jwt)
        if self._iam:
            return await self._iam.identify(token, trace_headers)
        raise InvalidToken(self._accepted_forms())

    def _accepted_forms(self) -> str:
        forms = []
        if self._keys:
            forms.append(f"an API key, which begins with `{API_KEY_PREFIX}`")
        if self._oidc:
            forms.append("a JWT of the issuer that this kernel trusts")
        return f"The token is not of a kind that this kernel accepts: {' or '.join(forms)}."


def _api_keys(settings: AuthorizationSettings) -> ApiKeys | None:
    return ApiKeys(settings.api_keys) if settings.api_keys else None


def _oidc(settings: AuthorizationSettings) -> OidcAuthorizer | None:
    if settings.oidc is None:
        return None
    # Its library takes as long to import as a tenth of the kernel.
    from pharia_kernel.shell.auth.oidc import OidcAuthorizer

    return OidcAuthorizer(settings.oidc)


def _iam(settings: AuthorizationSettings) -> IamAuthorizer | None:
    url, ttl, grace = _iam_settings(settings)
    return IamAuthorizer(url, ttl=ttl, grace=grace) if url else None


def _iam_settings(settings: AuthorizationSettings) -> tuple[str | None, float, float]:
    return settings.authorization_url, settings.authorization_cache, settings.authorization_grace


async def _close(*parts: OidcAuthorizer | IamAuthorizer | None) -> None:
    await asyncio.gather(*(part.close() for part in parts if part))
