"""The trace context that others get to see."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio
from aiohttp import web

from pharia_kernel.csi.service import CsiService
from pharia_kernel.csi.types import CallContext, DocumentPath
from pharia_kernel.drivers.retrieval.remote import RemoteDocumentIndex
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.shell.auth.iam import IamAuthorizer
from pharia_kernel.telemetry import tracing
from tests.telemetry.support import SAMPLED, TRACE, exporting


class Upstream:
    """Grants everything, has every document, and remembers who asked."""

    def __init__(self) -> None:
        self.url = ""
        self.parents: list[str | None] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.parents.append(request.headers.get("traceparent"))
        return web.json_response(
            {
                "permissions": [{"permission": "KernelAccess"}],
                "schema_version": "V1",
                "contents": [],
            }
        )


@pytest_asyncio.fixture
async def upstream() -> AsyncGenerator[Upstream, None]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    upstream.url = f"http://{host}:{port}"
    yield upstream
    await runner.cleanup()


async def test_the_authorization_service(upstream: Upstream) -> None:
    iam = IamAuthorizer(upstream.url, ttl=0.0, grace=0.0)
    with exporting() as spans, tracing.Request("GET /", SAMPLED):
        with tracing.span("check_permissions"):
            await iam.identify("token", {"traceparent": "of the server span"})
        await iam.close()
    id = spans["check_permissions"].scope.span_id
    assert upstream.parents == [f"00-{TRACE}-{id}-01"]


async def test_the_authorization_service_without_an_exporter(upstream: Upstream) -> None:
    iam = IamAuthorizer(upstream.url, ttl=0.0, grace=0.0)
    with tracing.Request("GET /", SAMPLED):
        await iam.identify("token", SAMPLED)
    await iam.close()
    assert upstream.parents == [SAMPLED["traceparent"]]


async def test_the_document_index(upstream: Upstream) -> None:
    index = RemoteDocumentIndex(upstream.url)
    csi = CsiService(None, Toolbox(), retrieval=index)
    context = CallContext(token="t", trace_headers=SAMPLED)
    paths = [DocumentPath("n", "c", name) for name in ("one", "two")]
    with exporting() as spans, tracing.Request("GET /", SAMPLED):
        await csi.documents(paths, context)
    documents = [span for span in spans.spans if span.name == "document"]
    assert set(upstream.parents) == {f"00-{TRACE}-{d.scope.span_id}-01" for d in documents}
    assert [span.attributes["name"] for span in documents] == ["one", "two"]
    assert spans.parent("document_concurrent") == "GET /"
    await csi.documents(paths[:1], context)
    assert upstream.parents[-1] == SAMPLED["traceparent"]
    await index.close()
