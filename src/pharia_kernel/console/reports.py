"""Spans that processes of skill authors report, on their way into the history of runs."""

from __future__ import annotations

from collections.abc import Iterable

from pharia_kernel.console.otlp import UNKNOWN_SERVICE, OtlpSpan, Reported, plain
from pharia_kernel.telemetry import names
from pharia_kernel.telemetry.history import MAX_EVENTS, History, Recording, SpanRecord

_LONGEST_NAME = 256
_MOST_SPANS = 5000
"""Of one report."""


def keep(history: History, reported: Iterable[Reported]) -> int:
    """The number of spans for which there was no room in their traces."""
    rejected = 0
    for place, (service, span) in enumerate(reported):
        recording = history.reported(span.trace_id)
        if place < _MOST_SPANS and recording.has_room:
            recording.add(_record(recording, service, span))
        else:
            recording.dropped += 1
            rejected += 1
    return rejected


def _record(recording: Recording, service: str, span: OtlpSpan) -> SpanRecord:
    record = SpanRecord(
        span_id=span.span_id,
        parent_id=span.parent_span_id or None,
        name=span.name[:_LONGEST_NAME],
        kind=span.kind_name,
        begin=int(span.start_time_unix_nano),
        end=int(span.end_time_unix_nano) or None,
        service=_foreign(service)[:_LONGEST_NAME],
        failed=span.failed,
        status=recording.text(span.status.message) or None,
    )
    for key, value in plain(span.attributes):
        recording.set(record.attributes, key[:_LONGEST_NAME], value)
    for event in span.events[: MAX_EVENTS + 1]:
        attributes = {key[:_LONGEST_NAME]: value for key, value in plain(event.attributes)}
        at = int(event.time_unix_nano)
        recording.event(record, event.name[:_LONGEST_NAME], at, attributes)
    return record


def _foreign(service: str) -> str:
    """Nobody else's spans pass for the kernel's own."""
    return UNKNOWN_SERVICE if service == names.SCOPE else service
