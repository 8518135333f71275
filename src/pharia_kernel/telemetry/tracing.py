"""Spans, as the rest of the kernel sees them.

Without an exporter, and in traces that are not sampled, ``span`` answers with one object that does
nothing and is false, so that attributes are only computed for spans that are recorded::

    with tracing.span(names.SEARCH) as span:
        if span:
            span.set(names.COLLECTION, path.collection)

Recorded spans are plain objects, which the exporter turns into those of the OpenTelemetry SDK in a
thread of its own: to record with the SDK takes several times as long, and each run has four spans.
"""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from contextvars import Token
from random import getrandbits
from secrets import randbits
from types import TracebackType
from typing import Literal, NamedTuple, TypeVar

from pharia_kernel.errors import KernelError
from pharia_kernel.telemetry import history, names, scope
from pharia_kernel.telemetry.history import Recording, SpanRecord
from pharia_kernel.telemetry.scope import Scope

T = TypeVar("T")
Value = str | bool | int | float | list[str]
Kind = Literal["internal", "server", "client"]

MAX_EVENTS = 128
"""Events of one span; further ones are left out."""
MAX_TEXT = 192 * 1024
"""Characters of an attribute; what is longer is cut. Prompts and answers are kept below."""
_HALF: int = 2**64
"""The lower half of the trace id decides about sampling, as in the SDK's ``TraceIdRatioBased``."""


class Event(NamedTuple):
    name: str
    at: int
    """Nanoseconds since 1970."""
    attributes: Mapping[str, Value]


class Exporting(NamedTuple):
    """Where spans of sampled traces go when they have ended, and which traces are sampled."""

    sink: Callable[[Recorded], None]
    ratio: float
    """Share of the traces for which the caller does not say."""

    def samples(self, trace_id: int) -> bool:
        return trace_id & (_HALF - 1) < round(self.ratio * _HALF)


_exporting: Exporting | None = None


def use(exporting: Exporting | None) -> None:
    """Export spans from now on; none: export nothing."""
    global _exporting
    _exporting = exporting


def enabled() -> bool:
    """Whether traces are exported."""
    return _exporting is not None


class Span:
    """A span that is not recorded: false, and it does nothing."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    @property
    def headers(self) -> Mapping[str, str]:
        """W3C trace context for what is called within the span."""
        return scope.current().headers

    def set(self, key: str, value: Value | None) -> None:
        """``None`` sets nothing."""

    def rename(self, name: str) -> None: ...

    def event(self, name: str, attributes: Mapping[str, Value]) -> None: ...

    def fail(self, error_type: str, description: str | None = None) -> None:
        """The span is an error. ``error_type`` is a code; ``description`` is not about the input
        or the output of anything."""

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        """``at`` in nanoseconds since 1970; none: now."""

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        return None

    def around(self, events: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The events, which are produced with this span as the current one."""
        return events


NOTHING = Span()


class Recorded(Span):
    """A span that is recorded: for the exporter, for the console (``history``), or for both. As a
    context it is the current one, and ends with what leaves the block. Times are nanoseconds since
    1970."""

    __slots__ = (
        "_kept",
        "_sink",
        "_token",
        "attributes",
        "begin",
        "description",
        "ended",
        "events",
        "failed",
        "kind",
        "name",
        "parent",
        "recording",
        "scope",
    )

    def __init__(
        self,
        name: str,
        above: Scope,
        sink: Callable[[Recorded], None] | None,
        recording: Recording | None,
        *,
        kind: Kind = "internal",
        begin: int | None = None,
    ) -> None:
        """``sink`` gets it when it has ended."""
        self.name = name
        self.kind: Kind = kind
        self.parent = above.span_id
        """Id of the span above; none for the first of a trace."""
        self.begin = time.time_ns() if begin is None else begin
        self.ended: int | None = None
        self.attributes: dict[str, Value] = {}
        self.events: list[Event] = []
        self.failed = False
        self.description: str | None = None
        self.recording = recording
        """What the console keeps of the request."""
        self.scope = Scope(above.trace_id, _span_id(), above.state, self, above.run, above.sampled)
        self._sink = sink
        self._token: Token[Scope] | None = None
        self._kept = recording and recording.begin(
            name, kind, self.parent, span_id=self.scope.span_id, at=self.begin
        )

    def child(self, name: str, kind: Kind = "internal", begin: int | None = None) -> Recorded:
        here = scope.current()
        return Recorded(name, here, self._sink, self.recording, kind=kind, begin=begin)

    def __bool__(self) -> bool:
        return True

    @property
    def headers(self) -> Mapping[str, str]:
        return self.scope.headers

    def set(self, key: str, value: Value | None) -> None:
        if value is not None:
            self.attributes[key] = _text(value) if isinstance(value, str) else value

    def rename(self, name: str) -> None:
        self.name = name

    def event(self, name: str, attributes: Mapping[str, Value]) -> None:
        if len(self.events) < MAX_EVENTS:
            self.events.append(Event(name, time.time_ns(), attributes))

    def fail(self, error_type: str, description: str | None = None) -> None:
        self.failed = True
        self.description = description
        self.set(names.ERROR_TYPE, error_type)

    def end(self, error: BaseException | None = None, at: int | None = None) -> None:
        if error is not None and not self.failed:
            self._blame(error)
        self.ended = time.time_ns() if at is None else at
        if self._sink:
            self._sink(self)
        if self.recording and self._kept:
            self._complete(self.recording, self._kept)

    def _complete(self, recording: Recording, kept: SpanRecord) -> None:
        """What the console keeps, which has less room."""
        kept.name, kept.end = self.name, self.ended
        kept.failed, kept.status = self.failed, self.description
        for key, value in self.attributes.items():
            recording.set(kept.attributes, key, value)
        for event in self.events:
            recording.event(kept, event.name, event.at, event.attributes)

    def _blame(self, error: BaseException) -> None:
        match error:
            case KernelError():
                # Not the detail: a skill's own error may quote what it was given.
                self.fail(error.code, error.title)
            case CancelledError() | GeneratorExit():
                # Nobody waits any more, which is nobody's fault.
                self.set(names.ERROR_TYPE, "cancelled")
            case _:
                self.fail(type(error).__qualname__)

    def __enter__(self) -> Span:
        self._token = scope.enter(self.scope)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False] | None:
        if self._token is not None:
            scope.leave(self._token)
            self._token = None
        self.end(error)
        return None

    async def around(self, events: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        # Set for each step, because the steps of a generator run in the tasks that ask for them.
        async with aclosing(events):
            while True:
                token = scope.enter(self.scope)
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                finally:
                    scope.leave(token)
                yield event


def _span_id() -> str:
    return f"{getrandbits(64) or 1:016x}"


def _text(value: str) -> str:
    """Such that it can be encoded, and is not too long."""
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    return value if value.isascii() else value.encode(errors="replace").decode()


# --- starting spans -------------------------------------------------------------------------------


def current() -> Span:
    """The span that the task works in."""
    return scope.current().span or NOTHING


def span(name: str, kind: Kind = "internal") -> Span:
    """A child of the current span."""
    above = scope.current().span
    return above.child(name, kind) if above else NOTHING


def record(
    name: str,
    begin: int,
    end: int,
    error: BaseException | None,
    attributes: Mapping[str, Value],
) -> None:
    """A child of the current span that is over; times are nanoseconds since 1970."""
    above = scope.current().span
    if above:
        child = above.child(name, begin=begin)
        child.attributes.update(attributes)
        child.end(error, end)


class Request:
    """The server span of a request: a context, in which its trace is the current one.

    ``trace_headers`` are the valid W3C headers that came with it. They decide whether the trace is
    sampled; without them the ratio does. While nothing is exported, they are passed on as they are.
    """

    __slots__ = ("_token", "scope", "span")

    def __init__(self, name: str, trace_headers: Mapping[str, str]) -> None:
        self.span: Span = NOTHING
        self.scope = origin = _origin(trace_headers)
        recording = history.recording(origin.trace_id)
        if origin.sampled or recording:
            sink = _exporting.sink if _exporting and origin.sampled else None
            self.span = recorded = Recorded(name, origin, sink, recording, kind="server")
            self.scope = recorded.scope
        elif origin.sampled is not None:
            self.scope = Scope(origin.trace_id, _span_id(), origin.state, sampled=False)

    def __enter__(self) -> Request:
        self._token: Token[Scope] = scope.enter(self.scope)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope.leave(self._token)
        self.span.end(error)


def _origin(trace_headers: Mapping[str, str]) -> Scope:
    """Where a request comes from."""
    _, trace_id, parent, flags = trace_headers.get("traceparent", "---").split("-")[:4]
    if _exporting is None:
        return Scope(trace_id or None, parent or None)
    if trace_id:
        sampled = bool(int(flags, 16) & 1)
    else:
        number = randbits(128) or 1  # who knows it may read the run: nobody may guess it
        trace_id, sampled = f"{number:032x}", _exporting.samples(number)
    return Scope(trace_id, parent or None, trace_headers.get("tracestate"), sampled=sampled)


def headers(otherwise: Mapping[str, str]) -> dict[str, str]:
    """W3C trace context of the current span to send upstream; ``otherwise`` while nothing is
    exported."""
    return dict(scope.current().headers or otherwise)
