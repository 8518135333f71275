"""Requests to one registry: connections, authorization, redirects, time limits, retries."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiohttp
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

from pharia_kernel.errors import BadRegistryAnswer, RegistryUnavailable
from pharia_kernel.oci.auth import Authorizer, Reply
from pharia_kernel.oci.credentials import CredentialSource
from pharia_kernel.oci.trouble import (
    BriefTrouble,
    connection_trouble,
    foreign_refusal,
    refusal,
)
from pharia_kernel.oci.types import MAX_MANIFEST_SIZE
from pharia_kernel.resilience import RetryPolicy

log = logging.getLogger("pharia_kernel.registry")

T = TypeVar("T")
Consume = Callable[[aiohttp.ClientResponse], Awaitable[T]]
"""Takes what is of use from a response whose status is one of those hoped for."""

RETRIES = RetryPolicy(attempts=3, base=0.5, longest=20.0)
_CONNECT_SECONDS = 10.0
_MAX_ERROR_SIZE = 64 << 10
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TELL_AGAIN_SECONDS = 60.0
_READ_BUFFER = 1 << 18


class Request(Struct, frozen=True, kw_only=True):
    method: str = "GET"
    url: URL
    what: str
    """What is asked for, with its article, for messages."""
    scope: str
    """What a token must allow."""
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    hoped: frozenset[int] = frozenset({200})
    """Statuses that are no error."""
    retry: bool = True


class Answer(Struct, frozen=True):
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Pulse:
    """When the registry last showed life."""

    def __init__(self) -> None:
        self.beat()

    def beat(self) -> None:
        self._last = time.monotonic()

    def silent_for(self) -> float:
        """Seconds."""
        return time.monotonic() - self._last


class Story:
    """Tells the log when a registry gets into trouble and out of it, but not for each request."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._told: float | None = None

    def trouble(self, trouble: RegistryUnavailable) -> None:
        now = time.monotonic()
        if self._told is None or now - self._told > _TELL_AGAIN_SECONDS:
            self._told = now
            log.warning("Registry %s is in trouble: %s", self._registry, trouble.detail)

    def well(self) -> None:
        if self._told is not None:
            self._told = None
            log.info("Registry %s answers again", self._registry)


class Places:
    """Bounds what is under way at once. One may wait as long as the registry answers others."""

    def __init__(self, count: int, patience: float, pulse: Pulse) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience = patience
        self._pulse = pulse

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Raises ``RegistryUnavailable`` if nothing moves for too long."""
        if not self._free.locked():
            self._pulse.beat()  # nobody waits, so silence up to now means nothing
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    await self._free.acquire()
                break
            except TimeoutError:
                if self._pulse.silent_for() >= self._patience:
                    raise RegistryUnavailable(
                        "The registry has not answered anybody for "
                        f"{self._patience:g} s, so it was not even asked."
                    ) from None
        try:
            yield
        finally:
            self._free.release()


class Transport:
    """One pool of connections, opened with the first request."""

    def __init__(
        self,
        origin: URL,
        source: CredentialSource,
        *,
        ca_file: Path | None,
        timeout: float,
        retries: RetryPolicy,
        metadata_places: int,
        blob_places: int,
    ) -> None:
        """``timeout`` in seconds: for everything about a small answer, retries included, and for
        silence in the middle of a blob.
        """
        self.origin = origin
        self._ca_file = ca_file
        self._timeout = timeout
        self._retries = retries
        self.pulse = Pulse()
        self._story = Story(origin.authority)
        self._metadata = Places(metadata_places, timeout, self.pulse)
        self._blobs = Places(blob_places, timeout, self.pulse)
        self._authorizer = Authorizer(origin, source, self._ask_token_service)
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()

    async def exchange(self, request: Request) -> Answer:
        """The whole answer, which is small."""

        async def consume(response: aiohttp.ClientResponse) -> Answer:
            body = await _whole(response, MAX_MANIFEST_SIZE, request.what)
            return Answer(response.status, response.headers, body)

        async with self._told(), self._metadata.one():
            timer = asyncio.timeout(self._timeout)
            try:
                async with timer:
                    return await self._with_retries(request, consume, timer.when())
            except TimeoutError:
                raise RegistryUnavailable(
                    f"The registry did not answer within {self._timeout:g} s, "
                    f"asked for {request.what}."
                ) from None

    async def transfer(self, request: Request, consume: Consume[T]) -> T:
        """For large bodies in either direction: limited by silence, not in total."""
        async with self._told(), self._blobs.one():
            return await self._with_retries(request, consume, None)

    async def close(self) -> None:
        await self._authorizer.close()
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        try:
            yield
        except RegistryUnavailable as trouble:
            self._story.trouble(trouble)
            raise
        self._story.well()

    # --- attempts ---------------------------------------------------------------------------------

    async def _with_retries(
        self, request: Request, consume: Consume[T], deadline: float | None
    ) -> T:
        """``deadline`` is on the event loop's clock."""
        failed = 0
        while True:
            try:
                return await self._attempt(request, consume)
            except BriefTrouble as trouble:
                failed += 1
                log.debug("Attempt %d failed: %s", failed, trouble.detail)
                pause = self._retries.pause(failed, trouble.retry_after) if request.retry else None
                if pause is None:
                    raise
                if deadline is not None and self._now() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _attempt(self, request: Request, consume: Consume[T]) -> T:
        for last in (False, True):
            authorization = await self._authorizer.header(request.scope)
            async with self._sent(request, authorization) as response:
                if response.status in request.hoped:
                    return await consume(response)
                body = await _whole(response, _MAX_ERROR_SIZE, request.what, cut=True)
                if not self._is_ours(response.url):
                    raise foreign_refusal(response.status, request.what)
                offered = response.headers.getall("WWW-Authenticate", ())
                if response.status != 401 or last:
                    break
                if not await self._authorizer.refused(request.scope, offered, authorization):
                    break
        raise refusal(response.status, response.headers, body, request.what, self._authorizer.hint)

    @asynccontextmanager
    async def _sent(
        self, request: Request, authorization: str | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response at the end of all redirects; trouble with the connection, also while it is
        used, becomes an error of ours.
        """
        session = await self._open_session()
        response = None
        try:
            response = await self._follow(session, request, authorization)
            self.pulse.beat()
            yield response
        except (aiohttp.ClientError, OSError) as error:
            raise connection_trouble(error, request.what) from error
        finally:
            if response is not None:
                response.release()

    async def _follow(
        self, session: aiohttp.ClientSession, request: Request, authorization: str | None
    ) -> aiohttp.ClientResponse:
        url = request.url
        for _ in range(_MAX_REDIRECTS + 1):
            headers = dict(request.headers)
            if authorization and self._is_ours(url):
                headers["Authorization"] = authorization
            response = await session.request(
                request.method, url, headers=headers, data=request.body, allow_redirects=False
            )
            if response.status not in _REDIRECTS or request.method not in ("GET", "HEAD"):
                return response
            response.close()
            url = self._redirected(url, response.headers.get("Location", ""))
        raise BadRegistryAnswer(f"The registry redirects in a circle, asked for {request.what}.")

    def _redirected(self, url: URL, location: str) -> URL:
        try:
            # Signatures in addresses of storage break if anything is quoted again.
            target = url.join(URL(location, encoded=True))
        except ValueError:
            target = URL()
        allowed = ("https", "http") if self.origin.scheme == "http" else ("https",)
        if target.scheme not in allowed or not target.host:
            raise BadRegistryAnswer("The registry redirects to an address that is not https://.")
        return target

    def _is_ours(self, url: URL) -> bool:
        return url.absolute and url.origin() == self.origin

    # --- connections ------------------------------------------------------------------------------

    async def _ask_token_service(
        self, method: str, url: URL, headers: dict[str, str], form: dict[str, str] | None
    ) -> Reply:
        session = await self._open_session()
        what = "an access token"
        try:
            async with asyncio.timeout(self._timeout):
                async with session.request(
                    method, url, headers=headers, data=form, allow_redirects=False
                ) as response:
                    body = await _whole(response, _MAX_ERROR_SIZE, what)
                    return response.status, response.headers, body
        except (aiohttp.ClientError, OSError) as error:
            log.debug("Token service %s: %s", url.host, type(error).__name__)
            raise connection_trouble(error, what) from error

    async def _open_session(self) -> aiohttp.ClientSession:
        async with self._opening:
            if self._session is None:
                tls = await asyncio.to_thread(self._tls) if self.origin.scheme == "https" else True
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, ssl=tls),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._timeout
                    ),
                    auto_decompress=False,  # digests are of the bytes as they are
                    headers={"Accept-Encoding": "identity", "User-Agent": "pharia-kernel"},
                    read_bufsize=_READ_BUFFER,
                )
        return self._session

    def _tls(self) -> ssl.SSLContext:
        """Trusts what the system trusts, and the CA of the settings."""
        context = ssl.create_default_context()
        if self._ca_file is not None:
            try:
                context.load_verify_locations(self._ca_file)
            except OSError as error:  # SSLError is one
                reason = "no certificate in PEM" if isinstance(error, ssl.SSLError) else ""
                raise RegistryUnavailable(
                    "The file of `registry-ca-file` is of no use: "
                    f"{reason or error.strerror or 'not readable'}."
                ) from None
        return context


async def _whole(
    response: aiohttp.ClientResponse, limit: int, what: str, *, cut: bool = False
) -> bytes:
    """The body; what exceeds ``limit`` bytes is an error, or not read if ``cut``."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            if cut:
                break
            raise BadRegistryAnswer(f"The registry's answer is too long, asked for {what}.")
    return bytes(body[:limit])
