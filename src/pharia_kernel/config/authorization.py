"""Settings of authorization: API keys, and tokens of an OpenID provider."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from pharia_kernel.config.values import (
    DurationOrZero,
    FromEnv,
    HttpUrl,
    NoDuplicates,
    Table,
    Text,
    expected,
    refused,
)
from pharia_kernel.errors import InvalidNamespace
from pharia_kernel.skills.paths import check_namespace

EVERY_NAMESPACE = "*"


class Permission(StrEnum):
    """What a caller may do in a namespace; ``admin`` is everything, everywhere."""

    RUN = "run"
    """Run skills, read their metadata, list them and their tools."""
    DEPLOY = "deploy"
    """See the state of the namespace and its skills, and have them read again."""
    CSI = "csi"
    """Make system calls over HTTP, and manage documents."""
    ADMIN = "admin"


def _check_scope(name: str) -> str:
    try:
        return name if name == EVERY_NAMESPACE else check_namespace(name)
    except InvalidNamespace as error:
        raise refused(error.detail) from None


Permissions = Annotated[list[Permission], FromEnv, NoDuplicates, Field(min_length=1)]
NamespaceScopes = Annotated[
    list[Annotated[str, AfterValidator(_check_scope)]], FromEnv, NoDuplicates
]
"""Names of namespaces, or ``*``."""


class _Granting(Table):
    """Permissions, and the namespaces in which they hold."""

    permissions: Permissions
    namespaces: NamespaceScopes = Field(default_factory=list)

    @model_validator(mode="after")
    def _check_namespaces(self) -> Self:
        if Permission.ADMIN in self.permissions:
            if set(self.namespaces) - {EVERY_NAMESPACE}:
                raise refused("must be left out: `admin` holds in all of them", "namespaces")
        elif not self.namespaces:
            raise refused('is empty: name the namespaces, or write ["*"] for all', "namespaces")
        return self


# --- API keys -------------------------------------------------------------------------------------

API_KEY_PREFIX = "pk_"
"""By which people, secret scanners and the kernel tell the keys from other tokens."""
_KEY_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def hash_api_key(key: str) -> str:
    """What ``hash`` says of the key.

    A plain SHA-256 is enough: keys are 256 random bits, so there is nothing to guess that a slow or
    salted hash would protect, and it is computed on every request.
    """
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _parse_key_hash(value: Any) -> str:
    if isinstance(value, str) and _KEY_HASH.fullmatch(value.lower()):
        return value.lower()
    raise expected('"sha256:" and 64 hexadecimal digits; `pharia-kernel api-key` prints it')


def _parse_instant(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if len(value) > 10 else date.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            return value.astimezone(UTC)
    elif isinstance(value, date):
        return datetime.combine(value, time.min, UTC)
    raise expected("a date such as 2027-01-31, or a time with its offset: 2027-01-31T12:00:00Z")


Instant = Annotated[
    datetime,
    BeforeValidator(_parse_instant),
    PlainSerializer(lambda instant: instant.isoformat(), when_used="json"),
]
"""A date alone is the beginning of that day in UTC."""


class ApiKey(_Granting):
    """A key that the kernel itself checks; only its hash is known here."""

    hash: Annotated[str, BeforeValidator(_parse_key_hash)]
    expires: Instant | None = None
    """From then on it is refused."""


# --- OpenID Connect -------------------------------------------------------------------------------

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"
]  # fmt: skip
"""Asymmetric ones only: with a shared secret, whoever can check tokens can make them."""
Algorithms = Annotated[list[Algorithm], FromEnv, NoDuplicates, Field(min_length=1)]


def _usual_algorithms() -> list[Algorithm]:
    return ["RS256", "ES256"]


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by its name or number."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_trustworthy(url: str) -> bool:
    """Whether keys that come from the URL are those that its host gave out."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def _check_key_source(url: str) -> str:
    if not is_trustworthy(url):
        raise expected("an https:// URL: who can change the keys on their way can make tokens")
    return url


ProviderUrl = Annotated[HttpUrl, AfterValidator(_check_key_source)]


class OidcRole(_Granting):
    """What a value of the roles claim means here."""


class Oidc(Table):
    """An OpenID provider whose JWTs are accepted."""

    issuer: ProviderUrl
    audience: Text
    """Must be among the token's audiences."""
    algorithms: Algorithms = Field(default_factory=_usual_algorithms)
    jwks_url: ProviderUrl | None = None
    """Where the provider's keys are; else its discovery document says."""
    clock_skew: DurationOrZero = 60.0
    """How far the provider's clock may be off."""
    permissions_claim: Text = "pharia_permissions"
    """Claim with strings such as ``run:team-a``, ``csi:*`` and ``admin``."""
    roles_claim: Text | None = None
    """Claim with names of ``roles``; dots lead into objects: ``realm_access.roles``."""
    roles: dict[str, OidcRole] = Field(default_factory=dict)
    forward_token: bool = False
    """Pass the callers' tokens on to backends that work with them."""

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        if self.roles and self.roles_claim is None:
            raise refused("is missing: it says where the roles are", "roles-claim")
        if self.roles_claim is not None and not self.roles:
            raise refused("has no effect without `oidc.roles`", "roles-claim")
        return self
