"""The IAM service: one question per token, whether it may use the kernel."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

import aiohttp
import msgspec
from msgspec import Struct

from pharia_kernel.errors import AuthorizationUnavailable, Forbidden
from pharia_kernel.shell.auth.bearer import digest
from pharia_kernel.shell.auth.cache import Recent
from pharia_kernel.shell.auth.http import USUAL_TIMEOUT, Session, read_bounded
from pharia_kernel.shell.auth.permissions import EVERYTHING, Identity
from pharia_kernel.single_flight import SingleFlight
from pharia_kernel.telemetry import tracing

LONGEST_REFUSAL = 5.0
"""Seconds for which a refusal is remembered at most: a new token may be known a moment later."""
RETRY_PAUSE = 5.0
"""Seconds for which the grace is used without asking the service that just gave no answer."""
_PAUSES = (0.1, 0.4)
"""Seconds before further attempts, at most; jitter makes them shorter."""
_TRANSIENT = (502, 503)
_LONGEST_ANSWER = 64 * 1024

_log = logging.getLogger(__name__)

# The service knows one permission for all of the kernel, so its tokens are good for everything.
_USER = Identity("iam", EVERYTHING, forwards_token=True)


class _Accepted(Struct):
    fresh_until: float
    """Until then nobody needs to be asked."""
    grace_until: float
    """Until then it counts if nobody can be asked."""


class IamAuthorizer:
    """Asks ``POST {url}/check_user`` whether the caller's token has the permission to use the
    kernel.

    ``ttl`` and ``grace`` in seconds are for accepted tokens: how long they need not be asked about
    again, and how much longer they stay accepted while the service gives no usable answer.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float,
        grace: float,
        timeout: float = USUAL_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check_url = f"{url.rstrip('/')}/check_user"
        self._ttl = ttl
        self._grace = grace
        self._timeout = timeout
        self._clock = clock
        self._accepted: Recent[bytes, _Accepted] = Recent()
        # Apart from the others, so that many bad tokens don't push out the good ones.
        self._refused: Recent[bytes, float] = Recent()
        self._checks: SingleFlight[bytes, bool] = SingleFlight()
        self._session = Session()

    async def identify(self, token: str, trace_headers: dict[str, str]) -> Identity:
        """Raises ``Forbidden`` or ``AuthorizationUnavailable``."""
        key = digest(token)
        accepted = self._accepted.get(key)
        if accepted and self._clock() < accepted.fresh_until:
            return _USER
        if self._clock() < (self._refused.get(key) or 0.0):
            raise _forbidden()
        try:
            allowed = await self._checks.do(key, lambda: self._check(key, token, trace_headers))
        except AuthorizationUnavailable as error:
            if accepted and self._clock() < accepted.grace_until:
                pause = self._clock() + RETRY_PAUSE
                accepted.fresh_until = min(pause, accepted.grace_until)
                return _USER
            # Callers share it: without this, its traceback would grow with each of them.
            raise error.with_traceback(None) from None
        if not allowed:
            raise _forbidden()
        return _USER

    async def close(self) -> None:
        """Checks that have begun come to their end."""
        await self._checks.landed()
        await self._session.close()

    async def _check(self, key: bytes, token: str, trace_headers: dict[str, str]) -> bool:
        status, body = await self._ask(
            {**tracing.headers(trace_headers), "Authorization": f"Bearer {token}"}
        )
        if status not in (200, 401, 403):
            raise self._unavailable(f"status {status}")
        allowed = status == 200 and self._granted(body) == [_KERNEL_ACCESS]
        self._remember(key, allowed)
        return allowed

    def _remember(self, key: bytes, allowed: bool) -> None:
        now = self._clock()
        if allowed:
            self._refused.remove(key)
            until = now + self._ttl
            self._accepted.put(key, _Accepted(until, until + self._grace))
        else:
            self._accepted.remove(key)
            self._refused.put(key, now + min(self._ttl, LONGEST_REFUSAL))

    async def _ask(self, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask_with_retries(headers)
        except TimeoutError:
            raise self._unavailable(f"no answer within {self._timeout:g} s") from None
        except aiohttp.ClientError as error:
            raise self._unavailable(str(error) or type(error).__name__) from error

    async def _ask_with_retries(self, headers: dict[str, str]) -> tuple[int, bytes]:
        for pause in _PAUSES:
            try:
                status, body = await self._post(headers)
            except aiohttp.ClientConnectionError:
                pass
            else:
                if status not in _TRANSIENT:
                    return status, body
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
        return await self._post(headers)

    async def _post(self, headers: dict[str, str]) -> tuple[int, bytes]:
        # A redirect could carry the token to another host, so it counts as a wrong answer.
        async with self._session.get().post(
            self._check_url,
            data=_QUESTION,
            headers={**headers, "Content-Type": "application/json"},
            allow_redirects=False,
        ) as response:
            return response.status, await read_bounded(response, _LONGEST_ANSWER)

    def _granted(self, body: bytes) -> list[_IamPermission]:
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


class _IamPermission(Struct):
    permission: str


class _Answer(Struct):
    permissions: list[_IamPermission]


_KERNEL_ACCESS = _IamPermission("KernelAccess")
_QUESTION = msgspec.json.encode(_Answer([_KERNEL_ACCESS]))


def _forbidden() -> Forbidden:
    return Forbidden("Bearer token invalid: it is unknown, expired, or may not use this kernel.")
