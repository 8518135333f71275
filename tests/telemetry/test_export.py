from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from pharia_kernel.telemetry import export, names, tracing
from pharia_kernel.telemetry.export import Export, SpanQueue
from pharia_kernel.telemetry.scope import Scope
from pharia_kernel.telemetry.tracing import Recorded
from tests.telemetry.collector import PATIENCE, Collector, grpc_collector, http_collector, tree
from tests.telemetry.support import SAMPLED, TRACE, UNSAMPLED, sample

DROPPED = "kernel_telemetry_spans_dropped_total"


@pytest_asyncio.fixture(params=["grpc", "http/protobuf"])
async def collector(request: pytest.FixtureRequest) -> AsyncGenerator[tuple[Collector, str], None]:
    if request.param == "grpc":
        with grpc_collector() as grpc:
            yield grpc, "grpc"
    else:
        async with http_collector() as http:
            yield http, "http/protobuf"


def started(endpoint: str, protocol: str, ratio: float = 1.0) -> export.Tracing:
    return export.start(Export(endpoint=endpoint, protocol=protocol, ratio=ratio))


# --- collectors -----------------------------------------------------------------------------------


async def test_spans_arrive(collector: tuple[Collector, str]) -> None:
    server, protocol = collector
    running = started(server.endpoint, protocol)
    with tracing.Request("POST /", SAMPLED) as request:
        request.span.set(names.HTTP_STATUS, 200)
        with tracing.span("child") as child:
            child.set("flags", ["a", "b"])
            child.event("line", {"text": "hello"})
            child.fail("some_code", "Title")
    await running.close()
    spans = server.of_trace(TRACE)
    assert tree(spans) == ("POST /", [("child", [])])
    root, inner = spans
    assert (root.kind, inner.kind) == ("SERVER", "INTERNAL")
    assert root.attributes == {names.HTTP_STATUS: 200}
    assert inner.attributes == {"flags": ["a", "b"], names.ERROR_TYPE: "some_code"}
    assert inner.failed and inner.description == "Title" and not root.failed
    assert inner.events[0].attributes == {"text": "hello"}
    assert root.resource["service.name"] == "pharia-kernel"
    assert root.resource["service.version"]


async def test_headers_from_the_environment(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, protocol = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collector")
    running = started(server.endpoint, protocol)
    with tracing.Request("POST /", SAMPLED):
        pass
    await running.close()
    assert server.headers[0]["authorization"] == "Bearer collector"


@pytest.mark.parametrize(
    ("path", "asked"), [("", "/v1/traces"), ("/", "/v1/traces"), ("/otlp/v1/traces", None)]
)
async def test_the_path_of_the_endpoint(path: str, asked: str | None) -> None:
    async with http_collector() as server:
        running = started(server.endpoint + path, "http/protobuf")
        with tracing.Request("POST /", SAMPLED):
            pass
        await running.close()
        assert server.paths == [asked or path]


async def test_nothing_is_sent_of_traces_that_are_not_sampled() -> None:
    async with http_collector() as server:
        running = started(server.endpoint, "http/protobuf", ratio=0.0)
        for headers in (UNSAMPLED, {}):
            with tracing.Request("POST /", headers), tracing.span("child"):
                pass
        await running.close()
        assert server.spans == [] and server.paths == []


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Names of the loggers whose records reach the log."""
    names: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            names.append(record.name)

    handler = Handler()
    logging.getLogger().addHandler(handler)
    yield names
    logging.getLogger().removeHandler(handler)


# --- trouble --------------------------------------------------------------------------------------


class Exporter(SpanExporter):
    """Takes spans when it may, and answers as told."""

    def __init__(self, result: SpanExportResult | Exception = SpanExportResult.SUCCESS) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        self.batches.append(len(spans))
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        self.gate.set()


def filled(queue: SpanQueue, spans: int) -> None:
    for number in range(spans):
        above = Scope(f"{number + 1:032x}", sampled=True)
        Recorded(f"span {number}", above, queue.put, None).end()


def queue_of(exporter: Exporter, **options: Any) -> SpanQueue:
    make: Callable[[], SpanExporter] = lambda: exporter  # noqa: E731
    return SpanQueue(make, **{"interval": 0.01} | options)


def test_a_collector_that_hangs_costs_spans_and_not_memory() -> None:
    exporter = Exporter()
    exporter.gate.clear()
    before = sample(DROPPED, reason="queue_full")
    queue = queue_of(exporter, capacity=10, batch=4)
    filled(queue, 4)
    assert exporter.entered.wait(PATIENCE)
    filled(queue, 100)
    assert sample(DROPPED, reason="queue_full") == before + 90
    exporter.gate.set()
    queue.close()
    assert sum(exporter.batches) == 14
    assert max(exporter.batches) <= 4


def test_closing_does_not_wait_for_a_collector_that_hangs() -> None:
    exporter = Exporter()
    exporter.gate.clear()
    before = sample(DROPPED, reason="shutdown")
    queue = queue_of(exporter, batch=2, close_timeout=0.05)
    filled(queue, 2)
    assert exporter.entered.wait(PATIENCE)
    filled(queue, 3)
    queue.close()
    assert sample(DROPPED, reason="shutdown") == before + 3


def test_closing_sends_what_is_left() -> None:
    exporter = Exporter()
    queue = queue_of(exporter, batch=100, interval=PATIENCE)
    filled(queue, 42)
    queue.close()
    assert exporter.batches == [42]
    filled(queue, 1)
    assert exporter.batches == [42]


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, RuntimeError("broken")])
def test_failures_are_counted_and_told_once(
    result: SpanExportResult | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    before = sample(DROPPED, reason="export_failed")
    queue = queue_of(Exporter(result), batch=1)
    filled(queue, 20)
    queue.close()
    assert sample(DROPPED, reason="export_failed") == before + 20
    told = [r for r in caplog.records if "could not be exported" in r.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING]


async def test_a_dead_collector(logged: list[str]) -> None:
    async with http_collector() as server:
        endpoint = server.endpoint
    running = started(endpoint, "http/protobuf")
    began = time.monotonic()
    for _ in range(1000):
        with tracing.Request("POST /", SAMPLED):
            await asyncio.sleep(0)
    assert time.monotonic() - began < PATIENCE
    await running.close()
    assert server.spans == []
    assert set(logged) == {"pharia_kernel.telemetry"}


def test_an_exporter_that_cannot_be_made(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> SpanExporter:
        raise ValueError("no such compression")

    queue = SpanQueue(fail, close_timeout=PATIENCE)
    queue.close()
    assert "Traces can't be exported" in caplog.text
