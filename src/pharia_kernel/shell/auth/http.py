"""Requests to authorization services: bounded, and never redirected with a token."""

from __future__ import annotations

import aiohttp

USUAL_TIMEOUT = 10.0
"""Seconds that an authorization service has, all attempts included."""


class AnswerTooLong(aiohttp.ClientError):
    pass


class Session:
    """A connection pool that is made at the first use, because it belongs to the running loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def get(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; raises ``AnswerTooLong`` if it has more than ``limit`` bytes."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise AnswerTooLong(f"the answer has more than {limit} bytes")
    return bytes(body)
