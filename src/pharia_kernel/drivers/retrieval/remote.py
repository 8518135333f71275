"""Client of the Document Index API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from msgspec import Raw, Struct
from yarl import URL

from pharia_kernel.csi.types import (
    CallContext,
    Document,
    DocumentPath,
    ImageModality,
    IndexPath,
    SearchRequest,
    SearchResult,
    TextCursor,
    TextModality,
)
from pharia_kernel.drivers.inference.limiter import FairLimiter
from pharia_kernel.errors import (
    BadUpstreamAnswer,
    CsiError,
    DocumentNotFound,
    IndexNotFound,
    InvalidCsiRequest,
    TokenRequired,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from pharia_kernel.resilience import (
    AttemptFailed,
    Deadline,
    Resilience,
    RetryPolicy,
    parse_retry_after,
)

log = logging.getLogger("pharia_kernel.retrieval")

T = TypeVar("T")

ATTEMPT_SECONDS = 10.0
_CALL_SECONDS = 60.0
"""For all attempts of a call, when the caller sets no earlier deadline."""
_MAX_WAITING = 16_384
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_TEXT_ONLY = {"with": [{"modality": "text"}]}
_ABSENT = Raw(b"null")


class RemoteDocumentIndex:
    """Implements ``RetrievalDriver`` with the caller's own token."""

    def __init__(
        self,
        url: str,
        *,
        retry_policy: RetryPolicy | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
        max_concurrency: int = 64,
    ) -> None:
        """``url`` is an absolute HTTP URL, slash at the end or not; raises ``ValueError``."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{url}` is not an absolute HTTP or HTTPS URL")
        self._base = url.rstrip("/")
        self._resilience = Resilience(retry_policy)
        self._attempt_seconds = attempt_seconds
        self._limiter = FairLimiter(max_concurrency, max_waiting=_MAX_WAITING)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def search(self, request: SearchRequest, context: CallContext) -> list[SearchResult]:
        path = request.index_path
        body = msgspec.json.encode(
            {
                "query": [{"modality": "text", "text": request.query}],
                "max_results": request.max_results,
                "min_score": request.min_score,
                # Sections of other modalities could not be handed on.
                "filters": [*request.filters, _TEXT_ONLY],
            }
        )
        url = f"{_collection(path)}/indexes/{_part('index', path.index)}/search"
        answer = await self._call("POST", url, body, context, lambda: _no_index(path))
        return _results(_decoded(answer, list[Raw]))

    async def document(self, path: DocumentPath, context: CallContext) -> Document:
        found = await self._document(path, context)
        contents: list[TextModality | ImageModality] = [
            TextModality(item.text) if isinstance(item, _Text) else ImageModality()
            for item in found.contents
        ]
        return Document(path=path, contents=contents, metadata=_metadata(found))

    async def document_metadata(self, path: DocumentPath, context: CallContext) -> Raw | None:
        return _metadata(await self._document(path, context))

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _document(self, path: DocumentPath, context: CallContext) -> _Document:
        url = f"{_collection(path)}/docs/{_part('name', path.name)}"
        answer = await self._call("GET", url, None, context, lambda: _no_document(path))
        return _decoded(answer, _Document)

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        context: CallContext,
        not_found: Callable[[], CsiError],
    ) -> bytes:
        headers = _headers(context)
        deadline = _Deadline.earliest(_CALL_SECONDS, context.remaining())

        async def attempt() -> bytes:
            await self._take_place(context)
            try:
                async with asyncio.timeout(min(self._attempt_seconds, deadline.remaining())):
                    return await self._send(method, path, body, headers, not_found)
            except TimeoutError:
                raise AttemptFailed(_timed_out(self._attempt_seconds), retry=True) from None
            finally:
                self._limiter.release()

        return await self._resilience.call(attempt, deadline)

    async def _take_place(self, context: CallContext) -> None:
        try:
            await self._limiter.acquire(context.skill or context.namespace or "")
        except UpstreamOverloaded:
            raise UpstreamOverloaded(
                "Too many calls already wait for the Document Index.", retry_after=1.0
            ) from None

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        not_found: Callable[[], CsiError],
    ) -> bytes:
        # Encoded already: normalizing it again could let a name leave its place in the path.
        url = URL(self._base + path, encoded=True)
        try:
            # A redirect could carry the token to another host, so it counts as an error.
            async with self._open_session().request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise await _refused(response, not_found)
                return await _body(response)
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            # Not the `repr`: it holds the headers of the request, and so the token.
            why = f"{type(error).__name__}: {error}"
            log.warning("%s %s failed: %s", method, url.with_user(None), why)
            unavailable = UpstreamUnavailable("The Document Index cannot be reached.")
            raise AttemptFailed(unavailable, retry=True) from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            closed = UpstreamUnavailable("The connections to the Document Index were closed.")
            raise AttemptFailed(closed, retry=False)
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The limiter counts; a second limit here would only be unfair.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class _Deadline(Deadline):
    def error(self) -> UpstreamTimeout:
        return UpstreamTimeout("The Document Index did not answer in the time left for the call.")


# --- requests -------------------------------------------------------------------------------------


def _headers(context: CallContext) -> dict[str, str]:
    if not context.token:
        raise TokenRequired(
            "The Document Index works with the caller's token: "
            "send one as `Authorization: Bearer TOKEN`."
        )
    return {
        **context.trace_headers,
        "Authorization": f"Bearer {context.token}",
        "Content-Type": "application/json",
    }


def _collection(path: IndexPath | DocumentPath) -> str:
    namespace, collection = (
        _part("namespace", path.namespace),
        _part("collection", path.collection),
    )
    return f"/collections/{namespace}/{collection}"


def _part(name: str, value: str) -> str:
    """One segment of a URL path, whatever characters it has."""
    if value in ("", ".", ".."):
        # They cannot be told from path syntax, even when encoded.
        raise InvalidCsiRequest(f"`{name}` must not be empty, `.` or `..`, but is `{value}`.")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidCsiRequest(f"`{name}` is not valid Unicode text.") from None


# --- answers --------------------------------------------------------------------------------------


class _Text(Struct, tag="text", tag_field="modality"):
    text: str


class _Image(Struct, tag="image", tag_field="modality"):
    pass


class _Document(Struct):
    contents: list[_Text | _Image]
    metadata: Raw = _ABSENT


class _Cursor(Struct):
    modality: Literal["text"]
    item: int
    position: int


class _Section(Struct):
    document_path: DocumentPath
    section: list[_Text]
    score: float
    start: _Cursor
    end: _Cursor


def _results(sections: list[Raw]) -> list[SearchResult]:
    """Those that are one text each; the others are left out, lest one spoils the search."""
    results = []
    for raw in sections:
        try:
            results.append(_result(msgspec.json.decode(raw, type=_Section)))
        except (msgspec.MsgspecError, UnicodeDecodeError, _Odd) as error:
            log.warning("A section of the Document Index's answer is left out: %s", error)
    return results


class _Odd(Exception):
    """The section cannot be expressed as a search result."""


def _result(section: _Section) -> SearchResult:
    if len(section.section) != 1:
        raise _Odd(f"it has {len(section.section)} items instead of one")
    return SearchResult(
        document_path=section.document_path,
        content=section.section[0].text,
        score=section.score,
        start=TextCursor(section.start.item, section.start.position),
        end=TextCursor(section.end.item, section.end.position),
    )


def _metadata(document: _Document) -> Raw | None:
    return None if bytes(document.metadata).strip() == b"null" else document.metadata


def _decoded(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadUpstreamAnswer(
            f"The Document Index's answer is not what its API promises: {error}."
        ) from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            too_long = f"The Document Index's answer is longer than {_MAX_ANSWER_BYTES} bytes."
            raise AttemptFailed(BadUpstreamAnswer(too_long), retry=False)
    return bytes(body)


# --- errors ---------------------------------------------------------------------------------------


async def _refused(
    response: aiohttp.ClientResponse, not_found: Callable[[], CsiError]
) -> AttemptFailed:
    status = response.status
    token = response.request_info.headers.get("Authorization", "").partition(" ")[2]
    said = await response.content.read(2000)
    if token:
        said = said.replace(token.encode(), b"[token]")
    log.warning("%s answered with status %d: %r", response.url.with_user(None), status, said)
    error = _error(status, not_found)
    error.retry_after = parse_retry_after(response.headers.get("Retry-After"))
    return AttemptFailed(error, retry=status >= 500 or status in (408, 429))


def _error(status: int, not_found: Callable[[], CsiError]) -> CsiError:
    extra: dict[str, Any] = {"upstream_status": status}
    if status == 404:
        return not_found()
    if status in (401, 403):
        return UpstreamUnauthorized("The Document Index refused the caller's token.", **extra)
    if status in (429, 503):
        return UpstreamOverloaded("The Document Index has too much to do at the moment.", **extra)
    if status in (408, 504):
        return UpstreamTimeout("The Document Index reports that it ran out of time.", **extra)
    if status >= 500:
        return UpstreamUnavailable(f"The Document Index failed with status {status}.", **extra)
    return UpstreamRejected(f"The Document Index answered with status {status}.", **extra)


def _timed_out(seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The Document Index did not answer within {seconds:g} s.")


def _no_document(path: DocumentPath) -> DocumentNotFound:
    return DocumentNotFound(
        f"There is no document `{path.name}` in collection `{path.namespace}/{path.collection}` "
        "that the token may read."
    )


def _no_index(path: IndexPath) -> IndexNotFound:
    return IndexNotFound(
        f"There is no index `{path.index}` on a collection `{path.namespace}/{path.collection}` "
        "that the token may search."
    )
