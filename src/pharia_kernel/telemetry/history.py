"""The last runs, kept in memory for the console: what happened in them, span by span.

It works whether traces are exported or not. Spans that processes of skill authors report are kept
beside the kernel's own and joined with them by the id of the trace.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from random import getrandbits

from msgspec import Struct

from pharia_kernel.errors import KernelError
from pharia_kernel.telemetry import names

Value = str | bool | int | float | list[str]

MAX_SPANS = 500
"""Of one run; and of one trace, that authors' processes report."""
MAX_EVENTS = 128
"""Of one span."""
MAX_ATTRIBUTES = 64
"""Of one span or event."""
MAX_TEXT = 16 * 1024
"""Characters of one attribute."""
MAX_SIZE = 128 * 1024
"""Characters of all attributes and events of one run, or of what is reported for one trace. With it
the memory of a history is bounded, prompts and answers included."""
_OVERHEAD = 64
"""What an attribute or an event counts besides its characters."""

CUT = "…"


class SpanEvent(Struct):
    name: str
    time: int
    """Nanoseconds since 1970, as all times here."""
    attributes: dict[str, Value] = {}


class SpanRecord(Struct, kw_only=True):
    """One step of a run, as far as it is known: the end of what goes on is not."""

    span_id: str
    """16 hexadecimal digits."""
    parent_id: str | None
    name: str
    kind: str
    """Of OpenTelemetry, in lower case: ``internal``, ``server``, ``client``..."""
    begin: int
    end: int | None = None
    service: str = names.SCOPE
    """Who reports it."""
    failed: bool = False
    status: str | None = None
    """What is said of the failure."""
    attributes: dict[str, Value] = {}
    events: list[SpanEvent] = []
    dropped_events: int = 0


class Recording:
    """The spans of one request, or those that others report of one trace."""

    __slots__ = ("_room", "dropped", "spans", "trace_id")

    def __init__(self, trace_id: str | None) -> None:
        self.trace_id = trace_id
        self.spans: list[SpanRecord] = []
        self.dropped = 0
        """Spans for which there was no room."""
        self._room = MAX_SIZE

    @property
    def has_room(self) -> bool:
        """For one more span."""
        return len(self.spans) < MAX_SPANS

    def text(self, value: str) -> str:
        """As much of it as there is room for."""
        return str(self._cut(value))

    def add(self, span: SpanRecord) -> bool:
        """False if there is no room for it."""
        if not self.has_room:
            self.dropped += 1
            return False
        self.spans.append(span)
        return True

    def begin(
        self,
        name: str,
        kind: str,
        parent_id: str | None,
        *,
        span_id: str | None = None,
        at: int | None = None,
    ) -> SpanRecord:
        """A span that begins now, or did ``at`` that time."""
        span = SpanRecord(
            span_id=span_id or f"{getrandbits(64):016x}",
            parent_id=parent_id,
            name=name,
            kind=kind,
            begin=at or time.time_ns(),
        )
        self.add(span)
        return span

    def set(self, attributes: dict[str, Value], key: str, value: Value) -> None:
        """One of the attributes, as far as there is room for it."""
        if self._room > 0 and (len(attributes) < MAX_ATTRIBUTES or key in attributes):
            self._room -= _OVERHEAD + len(key)
            attributes[key] = self._cut(value)

    def event(self, span: SpanRecord, name: str, at: int, attributes: Mapping[str, Value]) -> None:
        if self._room <= 0 or len(span.events) >= MAX_EVENTS:
            span.dropped_events += 1
            return
        self._room -= _OVERHEAD + len(name)
        event = SpanEvent(name, at)
        for key, value in attributes.items():
            self.set(event.attributes, key, value)
        span.events.append(event)

    def _cut(self, value: Value) -> Value:
        if isinstance(value, list):
            return [str(self._cut(item)) for item in value[:MAX_ATTRIBUTES]]
        if not isinstance(value, str):
            return value
        room = max(0, min(MAX_TEXT, self._room))
        if len(value) > room:
            value = value[:room] + CUT
        self._room -= len(value)
        return value


class RunRecord(Struct, eq=False):
    """One run, as far as it has come."""

    id: str
    namespace: str
    skill: str
    """``namespace/name``."""
    recording: Recording
    began: int
    ended: int | None = None
    outcome: str | None = None
    """``ok``, ``cancelled``, or the code of the error; none while it goes on."""
    error: dict[str, str] | None = None
    """Code, title and who can fix it; not the detail, which may quote what the run was given."""

    def end(self, error: BaseException | None, outcome: str) -> None:
        self.ended = time.time_ns()
        self.outcome = outcome
        if isinstance(error, KernelError):
            self.error = {
                "code": error.code,
                "title": error.title,
                "fixable_by": str(error.fixer),
            }


class History:
    """The last ``capacity`` runs, and what was reported of as many traces."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._runs: OrderedDict[str, RunRecord] = OrderedDict()
        self._reported: OrderedDict[str, Recording] = OrderedDict()

    def begin(self, id: str, namespace: str, skill: str, recording: Recording) -> RunRecord:
        run = RunRecord(id, namespace, skill, recording, time.time_ns())
        self._runs[id] = run
        if len(self._runs) > self._capacity:
            self._runs.popitem(last=False)
        return run

    def newest(self) -> Iterator[RunRecord]:
        return reversed(self._runs.values())

    def get(self, id: str) -> RunRecord | None:
        return self._runs.get(id)

    def reported(self, trace_id: str) -> Recording:
        """Where what others report of the trace is put."""
        recording = self._reported.get(trace_id)
        if recording is None:
            recording = self._reported[trace_id] = Recording(trace_id)
            if len(self._reported) > self._capacity:
                self._reported.popitem(last=False)
        return recording

    def spans(self, run: RunRecord) -> list[SpanRecord]:
        """All that is known of the run, by the time of its begin."""
        reported = self._reported.get(run.recording.trace_id or "")
        others = reported.spans if reported else []
        return sorted([*run.recording.spans, *others], key=lambda span: span.begin)


_history: History | None = None


def use(history: History | None) -> None:
    """Keep runs in it from now on; none: keep nothing."""
    global _history
    _history = history


def current() -> History | None:
    return _history


def recording(trace_id: str | None) -> Recording | None:
    """For the spans of a request, if anything is kept."""
    return None if _history is None else Recording(trace_id)
