from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from pharia_kernel.errors import KernelError, Overloaded, SkillNotFound
from pharia_kernel.shell.exchange import Observed, note_error, note_route
from pharia_kernel.shell.trace import trace_headers
from pharia_kernel.telemetry import scope as telemetry_scope
from tests.telemetry.support import (
    PARENT,
    SAMPLED,
    TRACE,
    UNSAMPLED,
    Exported,
    exporting,
    sample,
)


@pytest.fixture
def exported() -> Iterator[Exported]:
    with exporting() as spans:
        yield spans


class App:
    """Answers as told, and remembers what it saw."""

    def __init__(
        self,
        route: str | None = "/things/{name}",
        status: int = 200,
        error: KernelError | None = None,
    ) -> None:
        self.route = route
        self.status: int | None = status
        self.error = error
        self.seen: dict[str, str] = {}
        self.trace: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen = trace_headers(dict(scope["headers"]))
        self.trace = telemetry_scope.current().trace_id
        if self.route:
            note_route(scope, self.route)
        if self.error:
            note_error(scope, self.error)
        if self.status is not None:
            await send({"type": "http.response.start", "status": self.status, "headers": []})
            await send({"type": "http.response.body", "body": b""})


async def asked(
    app: App, headers: dict[str, str] | None = None, **changes: Any
) -> dict[str, str] | None:
    """Headers of the answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/things/a b",
        "query_string": b"",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "headers": [
            (name.encode(), value.encode())
            for name, value in {"host": "kernel:8081", **(headers or {})}.items()
        ],
    }
    await Observed(app)(scope | changes, receive, send)
    if not sent:
        return None
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def requests(method: str, path: str, status: str) -> float:
    return sample("kernel_http_requests_total", method=method, path=path, status=status)


async def test_a_request(exported: Exported) -> None:
    app = App()
    answer = await asked(app, {**SAMPLED, "user-agent": "test"}, query_string=b"detail=true")
    span = exported["GET /things/{name}"]
    assert (span.kind, span.parent, span.failed) == ("server", PARENT, False)
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/things/{name}",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.address": "kernel",
        "server.port": 8081,
        "url.path": "/things/a%20b",
        "url.query": "detail=true",
        "url.scheme": "http",
        "user_agent.original": "test",
    }
    own = f"00-{TRACE}-{span.scope.span_id}-01"
    assert answer == {"traceparent": own, "tracestate": "vendor=1"}
    assert app.seen == answer and app.trace == TRACE


async def test_a_trace_that_is_not_sampled(exported: Exported) -> None:
    app = App()
    answer = await asked(app, UNSAMPLED)
    assert answer and answer["traceparent"].startswith(f"00-{TRACE}-")
    assert answer["traceparent"].endswith("-00") and PARENT not in answer["traceparent"]
    assert app.seen == answer
    assert exported.spans == []


async def test_without_an_exporter_the_callers_headers_stay() -> None:
    app = App()
    assert await asked(app, SAMPLED) == {}
    assert app.seen == SAMPLED and app.trace == TRACE


@pytest.mark.parametrize("traceparent", ["", "00-1-2-3", "00-" + "0" * 32 + "-" + PARENT + "-01"])
async def test_invalid_contexts_are_ignored(exported: Exported, traceparent: str) -> None:
    answer = await asked(App(), {"traceparent": traceparent})
    assert answer and TRACE not in answer["traceparent"]
    assert exported.spans[0].parent is None


async def test_only_known_routes_are_counted(exported: Exported) -> None:
    before = requests("GET", "/things/{name}", "200")
    await asked(App())
    await asked(App(route=None, status=404))
    assert requests("GET", "/things/{name}", "200") == before + 1
    assert [span.name for span in exported.spans] == ["GET /things/{name}", "GET"]


async def test_errors_of_the_server(exported: Exported) -> None:
    await asked(App(status=500, error=KernelError("secret detail")))
    span = exported.spans[0]
    assert span.failed and span.attributes["error.type"] == "internal_error"
    assert span.description == KernelError.title


@pytest.mark.parametrize("error", [SkillNotFound("x"), Overloaded("x")])
async def test_mistakes_of_the_caller(exported: Exported, error: KernelError) -> None:
    await asked(App(status=error.status, error=error))
    assert not exported.spans[0].failed
    assert exported.spans[0].attributes["error.type"] == error.code


async def test_a_client_that_goes_before_the_answer(exported: Exported) -> None:
    before = requests("GET", "/gone", "499")
    app = App(route="/gone")
    app.status = None
    assert await asked(app) is None
    assert requests("GET", "/gone", "499") == before + 1
    assert exported.spans[0].attributes["error.type"] == "cancelled"


async def test_a_cancelled_request(exported: Exported) -> None:
    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await asyncio.Event().wait()

    entered = asyncio.Event()
    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    never: Any = None
    task = asyncio.create_task(Observed(hang)(scope, never, never))
    await entered.wait()
    task.cancel()
    await asyncio.wait({task})
    assert exported.spans[0].attributes["error.type"] == "cancelled"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("a=b&access_token=hunter2&c=d", "a=b&access_token=REDACTED&c=d"),
        ("api-key=hunter2", "api-key=REDACTED"),
        ("Password=hunter2;x", "Password=REDACTED"),
        ("detail=true", "detail=true"),
    ],
)
async def test_secrets_in_urls(exported: Exported, query: str, told: str) -> None:
    await asked(App(), query_string=query.encode())
    assert exported.spans[0].attributes["url.query"] == told


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        ("kernel", "kernel", None),
        ("[::1]:81", "::1", 81),
        ("[::1]", "::1", None),
        ("", "127.0.0.1", 80),
    ],
)
async def test_the_servers_name(
    exported: Exported, host: str, address: str, port: int | None
) -> None:
    await asked(App(), {"host": host})
    attributes = exported.spans[0].attributes
    assert (attributes["server.address"], attributes.get("server.port")) == (address, port)
