"""Authorization at registries: basic, or access tokens (the token protocol of CNCF's distribution).

Nothing is sent before the registry has asked for it. The password goes to the registry itself, or
to the token service that it names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from pharia_kernel_sdk.publishing.credentials import Credentials
from pharia_kernel_sdk.publishing.errors import RegistryError

_CLIENT_ID = "pharia-sdk"
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105
_PART = re.compile(
    rf"[\s,]*(?:(?P<key>{_TOKEN})\s*=\s*(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<bare>[^\s,\"]+))"
    rf"|(?P<scheme>{_TOKEN})(?=\s|,|$))"
)


@dataclass(frozen=True)
class Challenge:
    """What a registry wants to see (``WWW-Authenticate``, RFC 9110, section 11)."""

    scheme: str
    parameters: dict[str, str]


class Authorizer:
    """Makes the header ``Authorization`` that the registry asked for."""

    def __init__(self, client: httpx.Client, host: str, credentials: Credentials | None) -> None:
        self._client = client
        self._host = host
        self._credentials = credentials
        self.header: str | None = None
        """What to send from now on."""

    def answer(self, challenges: Sequence[str], scope: str) -> bool:
        """The registry answered 401; true if another attempt may do better. Raises
        ``RegistryError`` if there are no credentials, or the token service refuses them."""
        challenge = _best(challenges)
        if challenge is None:
            return False
        before = self.header
        if challenge.scheme == "basic":
            # The same password again would only count as one more wrong attempt.
            self.header = self._basic()
            return self.header != before
        self.header = self._token(challenge.parameters, scope)
        return True

    def _basic(self) -> str:
        if self._credentials is None or self._credentials.identity_token:
            raise RegistryError(
                f"{self._host} wants a user and a password: use --user and --password-stdin, set "
                "SKILL_REGISTRY_USER and SKILL_REGISTRY_TOKEN, or log in with `docker login`.",
                401,
            )
        return self._credentials.basic()

    def _token(self, parameters: dict[str, str], scope: str) -> str:
        realm = self._safe(parameters.get("realm", ""))
        service, wanted = parameters.get("service", ""), parameters.get("scope") or scope
        given = self._credentials
        try:
            if given and given.identity_token:
                response = self._client.post(realm, data=_refresh(given, service, wanted))
            else:
                headers = {"Authorization": given.basic()} if given else {}
                query = {"service": service, "scope": wanted.split()}
                if given:
                    query["account"] = given.user
                response = self._client.get(realm, params=query, headers=headers)
        except httpx.HTTPError as error:
            raise RegistryError(
                f"No answer from the token service of {self._host} ({_reason(error)})."
            ) from None
        return f"Bearer {self._granted(response)}"

    def _granted(self, response: httpx.Response) -> str:
        if response.status_code in (400, 401, 403):
            raise RegistryError(
                f"{self._host} refuses the user and password. Check SKILL_REGISTRY_USER and "
                "SKILL_REGISTRY_TOKEN, the options, or `docker login`.",
                401,
            )
        try:
            body: Any = response.json() if response.status_code == 200 else {}
            token = body.get("token") or body.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            raise RegistryError(
                f"The token service of {self._host} answers {response.status_code} without a token."
            )
        return token

    def _safe(self, realm: str) -> str:
        """A registry must not have us send the password in clear, unless it is asked in clear
        itself."""
        parts = urlsplit(realm)
        own = self._client.base_url
        in_clear = parts.scheme == own.scheme == "http" and parts.hostname == own.host
        if parts.username is not None or not (in_clear or parts.scheme == "https"):
            raise RegistryError(f"{self._host} names a token service that has no https:// address.")
        return realm


def _refresh(credentials: Credentials, service: str, scope: str) -> dict[str, str]:
    """RFC 6749, section 6, with the parameters that token services of registries add."""
    return {
        "grant_type": "refresh_token",
        "service": service,
        "client_id": _CLIENT_ID,
        "scope": scope,
        "refresh_token": credentials.identity_token,
    }


def _best(headers: Sequence[str]) -> Challenge | None:
    """A token rather than the password itself."""
    offered = [challenge for header in headers for challenge in _parsed(header)]
    for scheme in ("bearer", "basic"):
        for challenge in offered:
            if challenge.scheme == scheme:
                return challenge
    return None


def _parsed(header: str) -> Iterator[Challenge]:
    """Challenges up to where the header stops making sense."""
    current: Challenge | None = None
    position = 0
    while part := _PART.match(header, position):
        position = part.end()
        if part["scheme"]:
            if current:
                yield current
            current = Challenge(part["scheme"].lower(), {})
        elif current:
            quoted = part["quoted"]
            value = part["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            current.parameters.setdefault(part["key"].lower(), value)
    if current:
        yield current


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
