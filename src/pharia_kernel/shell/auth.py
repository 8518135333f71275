"""Who is calling, and may they?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

import aiohttp
import msgspec
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import Request

from pharia_kernel.errors import AuthorizationUnavailable, Forbidden, Unauthenticated
from pharia_kernel.shell.trace import trace_headers
from pharia_kernel.skills.types import Caller

IAM_TIMEOUT = 10.0
"""Seconds that the authorization service has, a second attempt included."""

_log = logging.getLogger(__name__)


class Authorizer(Protocol):
    async def check(self, caller: Caller) -> None:
        """Let the caller pass, or raise ``Unauthenticated``, ``Forbidden`` or
        ``AuthorizationUnavailable``.
        """
        ...

    async def close(self) -> None: ...


def authorizer(authorization_url: str | None) -> Authorizer:
    """IAM at that URL; without one everybody may do everything."""
    return IamAuthorizer(authorization_url) if authorization_url else AllowAll()


class AllowAll:
    async def check(self, caller: Caller) -> None:
        return

    async def close(self) -> None:
        return


class IamAuthorizer:
    """Asks the IAM service whether the caller's token has the permission to use the kernel."""

    def __init__(self, url: str, *, timeout: float = IAM_TIMEOUT) -> None:
        self._check_url = f"{url.rstrip('/')}/check_user"
        self._timeout = timeout
        self._lazy_session: aiohttp.ClientSession | None = None

    async def check(self, caller: Caller) -> None:
        if caller.token is None:
            raise Unauthenticated(
                "Bearer token expected: send it in the header `Authorization: Bearer <token>`."
            )
        status, body = await self._ask(caller.token, caller.trace_headers)
        if status in (401, 403):
            raise _forbidden()
        if status != 200:
            raise self._unavailable(f"status {status}")
        if self._granted(body) != [_KERNEL_ACCESS]:
            raise _forbidden()

    async def close(self) -> None:
        if self._lazy_session is not None:
            await self._lazy_session.close()

    async def _ask(self, token: str, trace: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask_with_retry({**trace, "Authorization": f"Bearer {token}"})
        except TimeoutError:
            raise self._unavailable(f"no answer within {self._timeout:g} s") from None
        except aiohttp.ClientError as error:
            raise self._unavailable(str(error) or type(error).__name__) from error

    async def _ask_with_retry(self, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            return await self._post(headers)
        except aiohttp.ClientConnectionError:
            return await self._post(headers)

    async def _post(self, headers: dict[str, str]) -> tuple[int, bytes]:
        # A redirect could carry the token to another host, so it counts as a wrong answer.
        async with self._session().post(
            self._check_url, data=_QUESTION, headers=headers, allow_redirects=False
        ) as response:
            return response.status, await response.read()

    def _session(self) -> aiohttp.ClientSession:
        """The pool, made at the first use because it belongs to the running loop."""
        if self._lazy_session is None:
            self._lazy_session = aiohttp.ClientSession(
                headers={"Content-Type": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._lazy_session

    def _granted(self, body: bytes) -> list[_Permission]:
        try:
            return msgspec.json.decode(body, type=_Answer).permissions
        except msgspec.DecodeError as error:
            raise self._unavailable(f"undecodable answer: {error}") from error

    def _unavailable(self, reason: str) -> AuthorizationUnavailable:
        _log.error("Cannot check a token with %s: %s", self._check_url, reason)
        return AuthorizationUnavailable(
            "The token could not be checked: the authorization service gave no usable answer. "
            "Try again later; if it persists, tell the operators of this kernel."
        )


class _Permission(msgspec.Struct):
    permission: str


class _Answer(msgspec.Struct):
    permissions: list[_Permission]


_KERNEL_ACCESS = _Permission("KernelAccess")
_QUESTION = msgspec.json.encode(_Answer([_KERNEL_ACCESS]))


def _forbidden() -> Forbidden:
    return Forbidden("Bearer token invalid: it is unknown, expired, or may not use this kernel.")


def caller_of(headers: Mapping[bytes, bytes]) -> Caller:
    """The caller as the request's headers (lower-case names) present them; nothing is verified."""
    return Caller(
        token=_bearer_token(headers.get(b"authorization", b"")),
        trace_headers=trace_headers(headers),
    )


def _bearer_token(authorization: bytes) -> str | None:
    scheme, _, token = authorization.decode("latin-1").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


class ApiToken(SecurityBase):
    """FastAPI dependency: the authorized caller. It also documents the security scheme."""

    def __init__(self, authorizer: Authorizer) -> None:
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = "api_token"
        self._authorizer = authorizer

    async def __call__(self, request: Request) -> Caller:
        caller = caller_of(dict(request.scope["headers"]))
        await self._authorizer.check(caller)
        return caller
