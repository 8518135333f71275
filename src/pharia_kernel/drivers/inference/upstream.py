"""One HTTP backend: its connection pool, its places, and single attempts to get an answer."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from pharia_kernel.drivers.inference.limiter import FairLimiter
from pharia_kernel.errors import BadUpstreamAnswer, CsiError, UpstreamUnavailable
from pharia_kernel.resilience import AttemptFailed, parse_retry_after

log = logging.getLogger("pharia_kernel.inference")

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_CONNECT_SECONDS = 10.0
_DRAIN_SECONDS = 0.1
_LARGE_BODY_BYTES = 1024 * 1024
_MAX_WAITING = 16_384

Refusal = Callable[[int, bytes, float | None], AttemptFailed]
"""Makes the error for a status that is not 200, from it, the body and `Retry-After` in seconds."""


class Answer:
    """A successful answer whose head has arrived. It has a connection and a place until closed."""

    def __init__(self, response: aiohttp.ClientResponse, give_back: Callable[[], None]) -> None:
        self._response = response
        self._give_back = give_back
        self.content_type = response.content_type
        """Media type in lower case, without parameters."""

    async def piece(self) -> bytes:
        """The bytes that have arrived, at least one; empty at the end.

        Raises ``UpstreamUnavailable`` if the connection breaks.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            log.warning(
                "Connection to %s broke during the answer: %s",
                _shown(self._response.url),
                reason(error),
            )
            raise UpstreamUnavailable(
                "The connection to the inference backend broke in the middle of its answer."
            ) from error

    async def read(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """The rest of the body; raises ``BadUpstreamAnswer`` if it exceeds ``limit`` bytes."""
        body = bytearray()
        while piece := await self.piece():
            body += piece
            if len(body) > limit:
                raise BadUpstreamAnswer(
                    f"The inference backend's answer is longer than {limit} bytes."
                )
        return bytes(body)

    async def drain(self) -> None:
        """All that matters was read: wait a moment for the end, to keep the connection."""
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await self._response.content.readany():
                    pass
        except (aiohttp.ClientError, OSError):
            # Includes TimeoutError: the connection is not worth more waiting, closing drops it.
            pass

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _let_go(self._response)
        self._give_back()


class Upstream:
    """Sends requests below one base URL, from the event loop that uses it first."""

    def __init__(self, url: str, *, max_concurrency: int) -> None:
        """``url`` is an absolute HTTP URL, slash at the end or not; raises ``ValueError``."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{url}` is not an absolute HTTP or HTTPS URL")
        self._base = url.rstrip("/")
        self.host: str = parts.hostname
        self.port: int = parts.port or (443 if parts.scheme == "https" else 80)
        self._limiter = FairLimiter(max_concurrency, max_waiting=_MAX_WAITING)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(
        self, path: str, body: bytes, headers: dict[str, str], *, tenant: str, refusal: Refusal
    ) -> Answer:
        """One attempt, as soon as a place is free.

        Raises ``AttemptFailed``, or ``UpstreamOverloaded`` if too many wait for a place.
        """
        await self._limiter.acquire(tenant)
        try:
            response = await self._send(f"{self._base}/{path}", body, headers)
            try:
                await self._refuse(response, refusal)
            except BaseException:
                _let_go(response)
                raise
        except BaseException:
            self._limiter.release()
            raise
        return Answer(response, self._limiter.release)

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _send(self, url: str, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        # Large bodies go out in pieces, so that they don't hold up the loop.
        data = io.BytesIO(body) if len(body) >= _LARGE_BODY_BYTES else body
        try:
            return await self._open_session().post(
                url, data=data, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError) as error:
            log.warning("No answer from %s: %s", _shown(URL(url)), reason(error))
            raise _not_answered(error) from error

    async def _refuse(self, response: aiohttp.ClientResponse, refusal: Refusal) -> None:
        """Raise unless the status is 200."""
        if response.status == 200:
            return
        body = await _start_of_body(response)
        # What it said is logged by whoever knows the secrets that it may quote.
        log.warning("%s answered with status %d", _shown(response.url), response.status)
        raise refusal(response.status, body, parse_retry_after(response.headers.get("Retry-After")))

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise AttemptFailed(
                UpstreamUnavailable("The connections to the inference backend were closed."),
                retry=False,
            )
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The limiter counts; a second limit here would only be unfair.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                # Cookies would carry state from one tenant to the next.
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _shown(url: URL) -> URL:
    """Without credentials."""
    return url.with_user(None)


def reason(error: Exception) -> str:
    """For the log. The ``repr`` of aiohttp's errors holds the request's headers: the token."""
    return f"{type(error).__name__}: {error}"


def _not_answered(error: Exception) -> AttemptFailed:
    """Nothing of an answer has arrived.

    Asking a model twice does no harm, so lost connections are retried like refused ones.
    """
    failure: CsiError
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        failure = UpstreamUnavailable("TLS with the inference backend failed.")
        return AttemptFailed(failure, retry=False)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        failure = UpstreamUnavailable("The inference backend cannot be reached.")
        return AttemptFailed(failure, retry=True)
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        failure = UpstreamUnavailable("The inference backend hung up without an answer.")
        return AttemptFailed(failure, retry=True)
    failure = BadUpstreamAnswer("The inference backend's answer is not HTTP.")
    return AttemptFailed(failure, retry=False)


def _let_go(response: aiohttp.ClientResponse) -> None:
    """Keep the connection if the body was read to its end, and cut it otherwise."""
    if response.content.is_eof():
        response.release()
    else:
        response.close()


async def _start_of_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    try:
        while len(body) < _MAX_ERROR_BYTES and (piece := await response.content.readany()):
            body += piece
    except (aiohttp.ClientError, OSError):
        # The status says enough.
        pass
    return bytes(body[:_MAX_ERROR_BYTES])
