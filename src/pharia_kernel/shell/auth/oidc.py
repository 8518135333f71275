"""JWTs of an OpenID provider (RFC 7519), verified as RFC 8725 advises."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwk import Key
from joserfc.jwt import JWTClaimsRegistry
from msgspec import Struct

from pharia_kernel.config.authorization import EVERY_NAMESPACE, Oidc, Permission
from pharia_kernel.errors import InvalidToken
from pharia_kernel.shell.auth.bearer import LONGEST_TOKEN, digest
from pharia_kernel.shell.auth.cache import Recent
from pharia_kernel.shell.auth.jwks import ProviderKeys
from pharia_kernel.shell.auth.permissions import Grants, Identity
from pharia_kernel.skills.failures import printable

_TYPES = ("jwt", "at+jwt")
"""Values of ``typ`` that access tokens have (RFC 9068); other kinds of JWTs have others."""
_LONGEST_SUBJECT = 100
_DISTANT_FUTURE = 2**53
"""Unix seconds that a float can tell."""
_REASONS = {
    "aud": "The token is for another audience.",
    "iss": "The token is of another issuer.",
    "nbf": "The token is not valid yet.",
    "iat": "The token was issued in the future.",
}


class Registry(jws.JWSRegistry):
    """Tokens are bounded as a whole; certificates may make the header long."""

    max_header_length = LONGEST_TOKEN
    max_payload_length = LONGEST_TOKEN
    max_signature_length = LONGEST_TOKEN


class Unverified(Struct, frozen=True):
    """A JWT of which nothing is known to be true."""

    signed: jws.CompactSignature
    header: dict[str, Any]
    claims: dict[str, Any]

    @property
    def issuer(self) -> Any:
        return self.claims.get("iss")


def read(token: str) -> Unverified | None:
    """The parts of a JWT; none if the token is something else."""
    if token.count(".") != 2:
        return None
    try:
        signed = jws.extract_compact(token.encode("ascii"), registry=_READER)
        claims = msgspec.json.decode(signed.payload, type=dict[str, Any])
    except (JoseError, msgspec.DecodeError, ValueError, TypeError, RecursionError):
        return None
    header: object = signed.protected
    return Unverified(signed, header, claims) if isinstance(header, dict) else None


_READER = Registry(strict_check_header=False)


class _Verified(Struct, frozen=True):
    identity: Identity
    expires: float
    generation: int
    """Of the provider's keys. One that it took back must not live on in what it signed."""


class OidcAuthorizer:
    """Accepts the JWTs of one provider. ``clock`` tells Unix seconds."""

    def __init__(
        self,
        config: Oidc,
        keys: ProviderKeys | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._keys = keys or ProviderKeys(config.issuer, config.jwks_url)
        self._clock = clock
        self._registry = Registry(algorithms=config.algorithms, strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=math.ceil(config.clock_skew),
            iss={"essential": True, "value": config.issuer},
            aud={"essential": True, "values": [config.audience]},
            exp={"essential": True},
        )
        self._verified: Recent[bytes, _Verified] = Recent()

    async def start(self) -> None:
        """Fetch the keys, so that no request waits for them. Failures are only logged."""
        await self._keys.prefetch()

    async def close(self) -> None:
        await self._keys.close()

    def known(self, token: str) -> Identity | None:
        """Whom a token stands for that was verified before and has not expired."""
        found = self._verified.get(digest(token))
        if found is None or not self._keys.usable() or found.generation != self._keys.generation:
            return None
        return found.identity if self._clock() < found.expires else None

    def recognise(self, text: str) -> Unverified | None:
        """A JWT that says that it is of this provider; none for any other text."""
        token = read(text)
        return token if token and self.issued(token) else None

    def issued(self, token: Unverified) -> bool:
        """Whether the token says that it is of this provider."""
        return bool(token.issuer == self._config.issuer)

    async def identify(self, text: str, token: Unverified) -> Identity:
        """Raises ``InvalidToken`` or ``AuthorizationUnavailable``."""
        algorithm = self._checked_header(token.header)
        keys = await self._keys.candidates(token.header.get("kid"), algorithm)
        if not keys:
            raise InvalidToken("The token is signed with a key that its issuer does not know.")
        if not any(self._signed(token.signed, key) for key in keys):
            raise InvalidToken("The token's signature is wrong.")
        self._check_claims(token.claims)
        identity = self._identity(token.claims)
        expires = float(min(token.claims["exp"], _DISTANT_FUTURE))
        verified = _Verified(identity, expires, self._keys.generation)
        self._verified.put(digest(text), verified)
        return identity

    # --- verification -----------------------------------------------------------------------------

    def _checked_header(self, header: dict[str, Any]) -> str:
        """The algorithm."""
        algorithm, kind, kid = header.get("alg"), header.get("typ", "JWT"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._config.algorithms:
            raise InvalidToken("The token is signed with an algorithm that is not accepted.")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in _TYPES:
            raise InvalidToken("The token is not an access token: `typ` says that it is another.")
        # `crit` names extensions that must be understood, and none is. `b64` is one of them, and
        # not for JWTs (RFC 7797, section 7).
        if "crit" in header or "b64" in header:
            raise InvalidToken("The token demands an extension of JWS that is not supported.")
        if kid is not None and not isinstance(kid, str):
            raise InvalidToken("The token's `kid` is not a string.")
        return algorithm

    def _signed(self, token: jws.CompactSignature, key: Key) -> bool:
        try:
            return jws.validate_compact(token, key, registry=self._registry)
        except (JoseError, ValueError, TypeError):
            return False

    def _check_claims(self, claims: dict[str, Any]) -> None:
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise InvalidToken("The token has expired.") from None
        except MissingClaimError as error:
            raise InvalidToken(f"The token lacks a claim: {error.claim}.") from None
        except InvalidClaimError as error:
            reason = _REASONS.get(error.claim, f"The token's claim `{error.claim}` is malformed.")
            raise InvalidToken(reason) from None

    # --- permissions ------------------------------------------------------------------------------

    def _identity(self, claims: dict[str, Any]) -> Identity:
        subject = printable(str(claims.get("sub", "")), _LONGEST_SUBJECT)
        grants = Grants.of([*self._permissions(claims), *self._of_roles(claims)])
        return Identity(f"oidc {subject}", grants, self._config.forward_token)

    def _permissions(self, claims: dict[str, Any]) -> Iterator[tuple[Permission, list[str]]]:
        """What does not look like one is for other applications."""
        for text in _strings(claims, self._config.permissions_claim):
            name, _, namespace = text.partition(":")
            if text == Permission.ADMIN:
                yield Permission.ADMIN, [EVERY_NAMESPACE]
            elif name in (Permission.RUN, Permission.DEPLOY, Permission.CSI) and namespace:
                yield Permission(name), [namespace]

    def _of_roles(self, claims: dict[str, Any]) -> Iterator[tuple[Permission, list[str]]]:
        if self._config.roles_claim is None:
            return
        for name in _strings(claims, self._config.roles_claim):
            if role := self._config.roles.get(name):
                for permission in role.permissions:
                    yield permission, role.namespaces


def _strings(claims: dict[str, Any], path: str) -> list[str]:
    """The strings of a claim, which is a list or, as ``scope``, a text with spaces between them."""
    value = claims[path] if path in claims else _at(claims, path.split("."))
    if isinstance(value, str):
        return value.split()
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
