"""OTLP collectors for tests: real servers for both protocols, that remember what they get."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

PATIENCE = 30.0
_POLL = 0.02

Tree = tuple[str, "list[Tree]"]


@dataclass
class Event:
    name: str
    attributes: dict[str, Any]


@dataclass
class SeenSpan:
    name: str
    trace: str
    id: str
    parent: str
    """Empty for the first span of a trace."""
    kind: str
    begin: int
    end: int
    attributes: dict[str, Any]
    events: list[Event]
    failed: bool
    description: str
    resource: dict[str, Any]


@dataclass
class Collector:
    endpoint: str = ""
    spans: list[SeenSpan] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request; names in lower case."""
    paths: list[str] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> None:
        self.headers.append(headers)
        self.payloads.append(request.SerializeToString())
        for of_resource in request.resource_spans:
            resource = _attributes(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [_seen(span, resource) for span in of_scope.spans]

    def of_trace(self, trace: str) -> list[SeenSpan]:
        return sorted((s for s in self.spans if s.trace == trace), key=lambda span: span.begin)

    async def trace(self, trace: str, spans: int) -> list[SeenSpan]:
        """The spans of a trace, once there are so many; in the order in which they began."""
        deadline = time.monotonic() + PATIENCE
        while len(self.of_trace(trace)) < spans:
            assert time.monotonic() < deadline, [span.name for span in self.of_trace(trace)]
            await asyncio.sleep(_POLL)
        return self.of_trace(trace)


def tree(spans: list[SeenSpan]) -> Tree:
    """Names of one trace's spans, each with its children. Every parent but the first's exists."""
    ids = {span.id for span in spans}
    (root,) = [span for span in spans if span.parent not in ids]

    def below(span: SeenSpan) -> Tree:
        return span.name, [below(child) for child in spans if child.parent == span.id]

    return below(root)


def _seen(span: trace_pb2.Span, resource: dict[str, Any]) -> SeenSpan:
    return SeenSpan(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=[Event(event.name, _attributes(event.attributes)) for event in span.events],
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        description=span.status.message,
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in _typed(pairs)}


def _typed(pairs: Any) -> Iterator[KeyValue]:
    yield from pairs


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


# --- gRPC -----------------------------------------------------------------------------------------


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        self._collector.take(request, headers)
        return ExportTraceServiceResponse()


@contextlib.contextmanager
def grpc_collector() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        _Servicer(collector), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.endpoint = f"127.0.0.1:{port}"
    try:
        yield collector
    finally:
        server.stop(None).wait()


# --- HTTP -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def http_collector() -> AsyncGenerator[Collector, None]:
    collector = Collector()

    async def export(request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        collector.paths.append(request.path)
        collector.take(ExportTraceServiceRequest.FromString(body), headers)
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", export)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        collector.endpoint = f"http://{host}:{port}"
        yield collector
    finally:
        await runner.cleanup()
