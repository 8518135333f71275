"""From spans to a collector, with the OpenTelemetry SDK and its exporters (OTLP).

Whatever the collector does, requests are not held up: spans wait in a bounded queue, a thread sends
them in batches, and what does not fit is dropped and counted. The SDK is imported when traces are
exported only, and gRPC in the thread: both take their time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version

from msgspec import Struct
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from pharia_kernel.telemetry import metrics, names, tracing
from pharia_kernel.telemetry.tracing import Exporting, Recorded

log = logging.getLogger("pharia_kernel.telemetry")

CAPACITY = 8192
"""Spans that wait for the exporter."""
_BATCH = 256
"""Spans of one request to the collector: the thread holds Python's lock while it encodes them."""
_BATCH_WITH_CONTENT = 16
"""Such that a batch of spans with prompts and answers stays below 4 MiB, which is what gRPC servers
accept by default."""
_INTERVAL = 0.5
"""Seconds that a span waits for its batch to fill."""
_EXPORT_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 3.0
_LOG_INTERVAL = 60.0


class Export(Struct, frozen=True, kw_only=True):
    """Where traces go, and which."""

    endpoint: str
    """``http(s)://...``, or ``host:port`` for gRPC without TLS."""
    protocol: str
    """``grpc`` or ``http/protobuf``."""
    ratio: float
    """Share of traces that are sampled when the caller does not say."""
    content: bool = False
    """Spans carry prompts and answers."""


class Tracing:
    """What ``start`` set up."""

    def __init__(self, queue: SpanQueue) -> None:
        self._queue = queue

    async def close(self) -> None:
        """Export nothing more but what is left; takes at most a few seconds."""
        tracing.use(None)
        await asyncio.to_thread(self._queue.close)


def start(export: Export) -> Tracing:
    """Export spans from now on."""
    queue = SpanQueue(
        lambda: _exporter(export), batch=_BATCH_WITH_CONTENT if export.content else _BATCH
    )
    tracing.use(Exporting(queue.put, export.ratio))
    return Tracing(queue)


class SpanQueue:
    """Spans on their way to the exporter, which a thread makes and uses."""

    def __init__(
        self,
        make_exporter: Callable[[], SpanExporter],
        *,
        capacity: int = CAPACITY,
        batch: int = _BATCH,
        interval: float = _INTERVAL,
        close_timeout: float = _CLOSE_TIMEOUT,
    ) -> None:
        self._make_exporter = make_exporter
        self._capacity = capacity
        self._batch = batch
        self._interval = interval
        self._close_timeout = close_timeout
        self._waiting: deque[Recorded] = deque()
        self._exporter: SpanExporter | None = None
        self._failing = False
        """The last export failed."""
        self._closing = False
        """Nothing more is taken."""
        self._abandoned = False
        """Nothing more is exported."""
        self._wake = threading.Event()
        self._trouble = _Trouble()
        self._thread = threading.Thread(target=self._work, name="span exporter", daemon=True)
        self._thread.start()

    def put(self, span: Recorded) -> None:
        """A span has ended."""
        if self._closing:
            return
        if len(self._waiting) >= self._capacity:
            metrics.spans_dropped("queue_full", 1)
            return
        self._waiting.append(span)
        if len(self._waiting) == self._batch:
            self._wake.set()

    def close(self) -> None:
        """Send what is left, as far as that is possible in the time."""
        self._closing = True
        self._wake.set()
        if not self._failing:
            self._thread.join(self._close_timeout)
        self._abandoned = True
        if left := len(self._waiting):
            metrics.spans_dropped("shutdown", left)
            log.warning("%d spans were not exported before the kernel ended", left)
        if self._exporter:
            self._exporter.shutdown()
        self._trouble.stop()

    def _work(self) -> None:
        try:
            self._exporter = exporter = self._make_exporter()
        except Exception:
            log.exception("Traces can't be exported")
            return
        while not self._closing:
            self._wake.wait(self._interval)
            self._wake.clear()
            self._export_waiting(exporter)
        self._export_waiting(exporter)

    def _export_waiting(self, exporter: SpanExporter) -> None:
        """What waits now: what comes meanwhile can fill the next batch."""
        waiting = len(self._waiting)
        while waiting > 0 and not self._abandoned:
            batch = [self._waiting.popleft() for _ in range(min(waiting, self._batch))]
            waiting -= len(batch)
            self._export(exporter, batch)

    def _export(self, exporter: SpanExporter, batch: Sequence[Recorded]) -> None:
        try:
            spans = [_sdk_span(span) for span in batch]
            succeeded = exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:
            self._trouble.reason = f"{type(error).__name__}: {error}"
            succeeded = False
        self._failing = not succeeded
        if succeeded:
            metrics.spans_exported(len(batch))
        else:
            metrics.spans_dropped("export_failed", len(batch))
            self._trouble.tell(len(batch))


class _Trouble(logging.Handler):
    """Hears what the SDK logs, and says so now and then: the SDK would with every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = "no reason was given"
        self._last = -_LOG_INTERVAL
        self._lost = 0
        self._heard = logging.getLogger("opentelemetry")
        self._heard.addHandler(self)
        self._heard.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.reason = record.getMessage()

    def tell(self, lost: int) -> None:
        self._lost += lost
        if time.monotonic() - self._last >= _LOG_INTERVAL:
            self._last = time.monotonic()
            log.warning("%d spans could not be exported: %s", self._lost, self.reason)
            self._lost = 0

    def stop(self) -> None:
        self._heard.removeHandler(self)


# --- as the SDK wants it --------------------------------------------------------------------------

_SCOPE = InstrumentationScope(names.SCOPE, version("pharia-kernel"))
_RESOURCE = Resource.create(
    {
        "service.name": names.SCOPE,
        "service.version": version("pharia-kernel"),
        "service.instance.id": str(uuid.uuid4()),
    },
    Schemas.V1_44_0.value,
)
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def _sdk_span(span: Recorded) -> ReadableSpan:
    here = span.scope
    state = TraceState.from_header([here.state]) if here.state else None
    return ReadableSpan(
        name=span.name,
        context=_context(here.trace_id, here.span_id, state),
        parent=_context(here.trace_id, span.parent, None) if span.parent else None,
        resource=_RESOURCE,
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.at) for event in span.events],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.description) if span.failed else _UNSET,
        start_time=span.begin,
        end_time=span.ended,
        instrumentation_scope=_SCOPE,
    )


_UNSET = Status(StatusCode.UNSET)


def _context(trace_id: str | None, span_id: str | None, state: TraceState | None) -> SpanContext:
    assert trace_id and span_id  # it is recorded
    return SpanContext(int(trace_id, 16), int(span_id, 16), False, _SAMPLED, state)


# --- exporters ------------------------------------------------------------------------------------


def _exporter(export: Export) -> SpanExporter:
    """Both honour ``OTEL_EXPORTER_OTLP_HEADERS`` and the other variables of OTLP."""
    if export.protocol == "grpc":
        return _grpc_exporter(export.endpoint)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=_traces_url(export.endpoint), timeout=_EXPORT_TIMEOUT)


def _grpc_exporter(endpoint: str) -> SpanExporter:
    # The kernel starts processes. gRPC's handlers for forks would wait for its threads each time,
    # and are of no use when another program is executed.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes past our log
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    insecure = None if endpoint.startswith("https://") else True
    return OTLPSpanExporter(endpoint=endpoint, insecure=insecure, timeout=_EXPORT_TIMEOUT)


def _traces_url(endpoint: str) -> str:
    """The URL as it is, or the path of the specification where it has none."""
    scheme, _, rest = endpoint.partition("://")
    host, _, path = rest.partition("/")
    return endpoint if path else f"{scheme}://{host}/v1/traces"
