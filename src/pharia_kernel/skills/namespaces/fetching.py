"""Gets descriptions over HTTP, each only if it changed (RFC 9110, section 13)."""

from __future__ import annotations

import os
import ssl
import zlib
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct
from yarl import URL

from pharia_kernel.resilience import parse_retry_after

MAX_BYTES = 1 << 20
_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_NO_URL = "is redirected to something that is not an HTTP URL"
_TEMPORARY = {429}


class Validators(Struct, frozen=True):
    """What the server calls one version of a resource."""

    etag: str | None = None
    last_modified: str | None = None

    def conditions(self) -> dict[str, str]:
        headers = {}
        if self.etag:
            headers["If-None-Match"] = self.etag
        if self.last_modified:
            headers["If-Modified-Since"] = self.last_modified
        return headers


class Fetched(Struct, frozen=True):
    text: str
    validators: Validators
    html: bool
    """Whether the server calls it a web page."""


class FetchFailed(Exception):
    """The message goes on after "it": "can't be reached...". It holds nothing of the URL."""

    def __init__(
        self, reason: str, *causes: str, temporary: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.causes = causes
        """What is behind the reason, outermost first."""
        self.temporary = temporary
        self.retry_after = retry_after


class AccessRefused(FetchFailed):
    """The server answered 401 or 403."""


def public_url(url: str) -> str:
    """Without what may be secret: user, password, query, fragment."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


class Fetcher:
    """One pool of connections for all namespaces."""

    def __init__(self, timeout: float) -> None:
        """``timeout`` is in seconds, for a whole answer with its redirects."""
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str, token: str | None, known: Validators) -> Fetched | None:
        """None if the version that is ``known`` is the newest. Raises ``FetchFailed``.

        A redirect to another origin is followed without the token, and one from https to http is
        not.
        """
        target = URL(url)
        headers = known.conditions()
        if token is not None:
            # A request can't have two kinds of credentials, and the token is the specific one.
            target = target.with_user(None)
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with await self._get(target, headers) as response:
                return await self._read(response, conditional=bool(known.conditions()))
        except TimeoutError:
            raise FetchFailed(
                f"did not arrive within {self._timeout:g} s", temporary=True
            ) from None
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise _failed(error) from error

    async def _get(self, url: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """Follows redirects itself, because each has to be looked at before it is followed."""
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._open_session().get(url, headers=headers, allow_redirects=False)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.release()
            following = _target(url, location)
            if (url.scheme, following.scheme) == ("https", "http"):
                raise FetchFailed("is redirected from https to http")
            if following.origin() != url.origin():
                headers = {k: v for k, v in headers.items() if k != "Authorization"}
            url = following
        raise FetchFailed("is redirected too often")

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # a slow server must not hold up others
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # it takes half a compressed text for a whole one
                headers={"Accept-Encoding": "gzip", "User-Agent": "pharia-kernel"},
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse, *, conditional: bool) -> Fetched | None:
        if response.status == 304 and conditional:
            return None
        if response.status != 200:
            raise _refused(response)
        body = bytearray()
        while piece := await response.content.readany():
            body += piece
            _limit(body)
        text = _decode(_decompress(body, response.headers.get("Content-Encoding", "")))
        return Fetched(text, _validators(response), response.content_type == "text/html")


def _target(url: URL, location: str) -> URL:
    """Where a redirect leads."""
    try:
        given = URL(location)
        following = url.join(given)
    except ValueError:
        raise FetchFailed(_NO_URL) from None
    without_host = bool(given.scheme) and not given.host
    if following.scheme not in {"http", "https"} or without_host:
        raise FetchFailed(_NO_URL)
    return following


def _limit(body: bytes | bytearray) -> None:
    if len(body) > MAX_BYTES:
        raise FetchFailed(f"is larger than {MAX_BYTES >> 20} MiB")


def _decompress(body: bytearray, encoding: str) -> bytes | bytearray:
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            decompressor = zlib.decompressobj(wbits=31)  # gzip, with its header
            try:
                text = decompressor.decompress(body, MAX_BYTES + 1)
            except zlib.error:
                raise _unreachable("the answer is garbled") from None
            _limit(text)
            if not decompressor.eof:
                raise _unreachable("the answer broke off")
            return text
        case _:
            raise FetchFailed("has a content encoding other than gzip")


def _decode(body: bytes | bytearray) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FetchFailed(f"is not UTF-8 text (byte {error.start + 1} is wrong)") from None


def _validators(response: aiohttp.ClientResponse) -> Validators:
    return Validators(
        _sendable(response.headers.get("ETag")), _sendable(response.headers.get("Last-Modified"))
    )


def _sendable(value: str | None) -> str | None:
    """What is to be a header of our own must not be anything else."""
    return value if value and value.isascii() and value.isprintable() else None


def _refused(response: aiohttp.ClientResponse) -> FetchFailed:
    status = response.status
    answer = f"server answered with status {status}"
    if status in {401, 403}:
        return AccessRefused(f"is refused: the {answer}", answer)
    return FetchFailed(
        f"can't be had: the {answer}",
        answer,
        temporary=status >= 500 or status in _TEMPORARY,
        retry_after=parse_retry_after(response.headers.get("Retry-After")),
    )


def _failed(error: Exception) -> FetchFailed:
    """In words of our own: the library's may hold the URL."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return _unreachable("its server's name is not known")
        case aiohttp.ClientConnectorCertificateError():
            return _unreachable("its server's TLS certificate is not accepted", _certificate(error))
        case aiohttp.ClientSSLError():
            return _unreachable("TLS with its server failed")
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            return _unreachable(
                "its server can't be reached", *([os.strerror(number)] if number else [])
            )
        case aiohttp.ClientPayloadError():
            return _unreachable("the answer broke off")
        case aiohttp.ClientResponseError():
            return _unreachable("the answer is not HTTP")
        case aiohttp.ClientConnectionError() | OSError():
            return _unreachable("the connection broke")
        case _:
            return FetchFailed("can't be asked for", type(error).__name__)


def _unreachable(*causes: str) -> FetchFailed:
    return FetchFailed(f"can't be had: {': '.join(causes)}", *causes, temporary=True)


def _certificate(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    return type(cause).__name__
