"""The client against a server that speaks the Document Index's wire format."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from pharia_kernel.csi.types import (
    CallContext,
    Document,
    DocumentPath,
    FilterItem,
    ImageModality,
    IndexPath,
    MetadataCondition,
    SearchFilter,
    SearchRequest,
    TextCursor,
    TextModality,
)
from pharia_kernel.drivers.retrieval.remote import RemoteDocumentIndex
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
from pharia_kernel.resilience import RetryPolicy

CONTEXT = CallContext(token="secret", trace_headers={"traceparent": "00-1-2-01"})
PATH = DocumentPath("dev", "manuals", "kernel/docs")
INDEX = IndexPath("dev", "manuals", "default")
HIT = {
    "document_path": {"namespace": "dev", "collection": "manuals", "name": "a"},
    "section": [{"modality": "text", "text": "Hello"}],
    "score": 0.5,
    "start": {"modality": "text", "item": 1, "position": 2},
    "end": {"modality": "text", "item": 1, "position": 6},
}
DOCUMENT = {
    "schema_version": "V1",
    "contents": [{"modality": "text", "text": "Hi"}, {"modality": "image", "bytes": "AAAA"}],
    "metadata": {"a": [1.0, None]},
}


class Upstream:
    """Answers with what the script says, then with the default."""

    def __init__(self) -> None:
        self.default: Any = DOCUMENT
        self.script: deque[web.Response | None] = deque()
        """None hangs."""
        self.paths: list[str] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self.active = self.most_active = 0
        self.arrivals = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        self.arrivals.release()
        try:
            await self.may_answer.wait()
            return await self._answer(request)
        finally:
            self.active -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(f"{request.method} {request.raw_path}")
        self.bodies.append(await request.json() if request.can_read_body else None)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.script:
            answer = self.script.popleft()
            if answer is None:
                await asyncio.Event().wait()
            assert answer is not None
            return answer
        return web.json_response(self.default)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield upstream
    await runner.cleanup()


@pytest.fixture
async def driver(upstream: Upstream) -> AsyncIterator[RemoteDocumentIndex]:
    driver = RemoteDocumentIndex(upstream.url + "/", retry_policy=RetryPolicy(base=0.001))
    yield driver
    await driver.close()


def request(**changes: Any) -> SearchRequest:
    plain = SearchRequest(index_path=INDEX, query="q", max_results=3)
    return msgspec.structs.replace(plain, **changes)


async def test_search(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    upstream.default = [HIT]
    condition = FilterItem(MetadataCondition(field="a.b", equal_to=True))
    filters = [SearchFilter(without=[condition]), SearchFilter(with_=[condition])]
    (hit,) = await driver.search(request(filters=filters, min_score=0.1), CONTEXT)
    assert hit.document_path == DocumentPath("dev", "manuals", "a")
    assert (hit.content, hit.score) == ("Hello", 0.5)
    assert (hit.start, hit.end) == (TextCursor(1, 2), TextCursor(1, 6))
    assert upstream.paths == ["POST /collections/dev/manuals/indexes/default/search"]
    wire = {"metadata": {"field": "a.b", "equal_to": True}}
    assert upstream.bodies == [
        {
            "query": [{"modality": "text", "text": "q"}],
            "max_results": 3,
            "min_score": 0.1,
            "filters": [{"without": [wire]}, {"with": [wire]}, {"with": [{"modality": "text"}]}],
        }
    ]
    assert upstream.headers[0]["authorization"] == "Bearer secret"
    assert upstream.headers[0]["traceparent"] == "00-1-2-01"


async def test_odd_sections_are_left_out(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    text = {"modality": "text", "text": "x"}
    upstream.default = [
        HIT | {"section": []},
        HIT | {"section": [text, text]},
        HIT | {"section": [{"modality": "image", "bytes": ""}]},
        HIT | {"start": {"modality": "image", "item": 0}},
        HIT | {"score": "high"},
        HIT,
    ]
    assert [hit.content for hit in await driver.search(request(), CONTEXT)] == ["Hello"]


async def test_document(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    document = await driver.document(PATH, CONTEXT)
    assert document.contents == [TextModality("Hi"), ImageModality()]
    assert document.path == PATH
    assert document.metadata is not None
    assert msgspec.json.decode(document.metadata) == {"a": [1.0, None]}
    assert await driver.document_metadata(PATH, CONTEXT) == document.metadata
    assert upstream.paths == ["GET /collections/dev/manuals/docs/kernel%2Fdocs"] * 2


@pytest.mark.parametrize("answer", [{"contents": []}, {"contents": [], "metadata": None}])
async def test_no_metadata(upstream: Upstream, driver: RemoteDocumentIndex, answer: Any) -> None:
    upstream.default = answer
    assert await driver.document_metadata(PATH, CONTEXT) is None
    assert await driver.document(PATH, CONTEXT) == Document(PATH, [], None)


async def test_parts_stay_in_their_places(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    upstream.default = []
    await driver.search(request(index_path=IndexPath("a/../b", "c?d#e", "%2e%2e")), CONTEXT)
    expected = "/collections/a%2F..%2Fb/c%3Fd%23e/indexes/%252e%252e/search"
    assert upstream.paths == [f"POST {expected}"]
    for part in ("", ".", ".."):
        with pytest.raises(InvalidCsiRequest, match="collection"):
            await driver.document(DocumentPath("dev", part, "x"), CONTEXT)
    assert len(upstream.paths) == 1


async def test_needs_the_callers_token(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    with pytest.raises(TokenRequired):
        await driver.search(request(), CallContext())
    assert upstream.paths == []


@pytest.mark.parametrize(
    ("status", "error", "attempts"),
    [
        (302, UpstreamRejected, 1),
        (400, UpstreamRejected, 1),
        (401, UpstreamUnauthorized, 1),
        (403, UpstreamUnauthorized, 1),
        (404, DocumentNotFound, 1),
        (408, UpstreamTimeout, 4),
        (429, UpstreamOverloaded, 4),
        (500, UpstreamUnavailable, 4),
        (503, UpstreamOverloaded, 4),
    ],
)
async def test_statuses(
    upstream: Upstream,
    driver: RemoteDocumentIndex,
    status: int,
    error: type[CsiError],
    attempts: int,
) -> None:
    upstream.script.extend(web.Response(status=status, text="secret detail") for _ in range(9))
    with pytest.raises(error) as caught:
        await driver.document(PATH, CONTEXT)
    assert type(caught.value) is error
    assert "secret" not in caught.value.detail
    assert len(upstream.paths) == attempts
    if status == 404:
        assert "`kernel/docs`" in caught.value.detail
        assert "`dev/manuals`" in caught.value.detail


async def test_missing_index(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    upstream.script.append(web.Response(status=404))
    with pytest.raises(IndexNotFound, match=r"`default`.*`dev/manuals`"):
        await driver.search(request(), CONTEXT)


async def test_recovers(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    upstream.script.extend([web.Response(status=500), web.Response(status=429)])
    assert (await driver.document(PATH, CONTEXT)).path == PATH
    assert len(upstream.paths) == 3


async def test_an_attempt_that_hangs_is_given_up(upstream: Upstream) -> None:
    upstream.script.append(None)
    driver = RemoteDocumentIndex(
        upstream.url, retry_policy=RetryPolicy(base=0.001), attempt_seconds=0.05
    )
    try:
        assert (await driver.document(PATH, CONTEXT)).path == PATH
    finally:
        await driver.close()
    assert len(upstream.paths) == 2


async def test_the_callers_deadline_holds(upstream: Upstream, driver: RemoteDocumentIndex) -> None:
    upstream.script.append(None)
    context = CallContext(token="secret", deadline=time.monotonic() + 0.05)
    with pytest.raises(UpstreamTimeout, match="Document Index"):
        await driver.document(PATH, context)
    assert len(upstream.paths) == 1


@pytest.mark.parametrize("body", ["", "null", "[1]", '{"contents": [{"modality": "smell"}]}', "{"])
async def test_answers_that_make_no_sense(
    upstream: Upstream, driver: RemoteDocumentIndex, body: str
) -> None:
    upstream.script.append(web.Response(text=body))
    with pytest.raises(BadUpstreamAnswer):
        await driver.document(PATH, CONTEXT)


async def test_calls_at_once_are_bounded(upstream: Upstream) -> None:
    driver = RemoteDocumentIndex(upstream.url, max_concurrency=3)
    upstream.may_answer.clear()
    calls = asyncio.gather(*(driver.document(PATH, CONTEXT) for _ in range(50)))
    async with asyncio.timeout(10):
        for _ in range(3):
            await upstream.arrivals.acquire()
        upstream.may_answer.set()
        assert len(await calls) == 50
    await driver.close()
    assert upstream.most_active == 3


async def test_nobody_listens() -> None:
    driver = RemoteDocumentIndex("http://127.0.0.1:9", retry_policy=RetryPolicy(attempts=1))
    with pytest.raises(UpstreamUnavailable):
        await driver.document(PATH, CONTEXT)
    await driver.close()


@pytest.mark.parametrize("url", ["example.com", "/relative", "ftp://example.com"])
def test_wrong_url(url: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        RemoteDocumentIndex(url)
