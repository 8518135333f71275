"""What is told of system calls, whoever makes them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from pharia_kernel.csi.types import CallContext
from pharia_kernel.errors import KernelError
from pharia_kernel.telemetry import metrics, names, tracing
from pharia_kernel.telemetry.tracing import Kind, Span

T = TypeVar("T")


def batch(function: str, requests: int, span_name: str | None = None) -> Span:
    """A system call with so many requests: counts them. More than one get a common span, which is
    called after ``span_name`` or the function."""
    metrics.csi_requested(function, requests)
    if requests < 2:
        return tracing.NOTHING
    span = tracing.span((span_name or function) + names.CONCURRENT)
    if span:
        span.set(names.REQUESTS, requests)
    return span


def within(span: Span, context: CallContext) -> CallContext:
    """For what is called in the span: it sends its trace context upstream."""
    headers = span.headers if span else None
    return msgspec.structs.replace(context, trace_headers=dict(headers)) if headers else context


class Call:
    """Context of one request of a system call: its span, how long it took, and how it ended.

    The span is called ``span_name``, or like the function.
    """

    __slots__ = ("_began", "_context", "_failure", "_function", "_model", "span")

    def __init__(
        self,
        function: str,
        context: CallContext,
        *,
        span_name: str | None = None,
        model: str | None = None,
        kind: Kind = "internal",
    ) -> None:
        self._function = function
        self._context = context
        self._model = model
        self._failure: KernelError | None = None
        self._began = time.monotonic()
        self.span = tracing.span(span_name or function, kind)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def context(self) -> CallContext:
        """For drivers: the trace context that they send upstream is that of the span."""
        return within(self.span, self._context)

    def failed(self, error: KernelError) -> None:
        """The call ends well, but what it tells its caller is this failure."""
        self._failure = error
        self.span.fail(error.code, error.title)

    def saw(self, event: Any) -> None:
        """Of a streamed call: an event has come."""

    def end(self, error: BaseException | None) -> None:
        """Of a call that is no context, because its events are produced step by step."""
        self._count(error)
        self.span.end(error)

    def __enter__(self) -> Self:
        self.span.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._count(error)
        self.span.__exit__(kind, error, traceback)

    def _count(self, error: BaseException | None) -> None:
        failure = error or self._failure
        metrics.csi_answered(self._function, self._model, self.seconds, failure)


async def streamed(
    begin: Callable[[], tuple[Call, AsyncGenerator[T, None]]],
) -> AsyncGenerator[T, None]:
    """The events of a streamed call. It begins when the first is asked for, so that what nobody
    listens to leaves no span behind, and is over when they are."""
    call, events = begin()
    source = call.span.around(events)
    try:
        async for event in source:
            call.saw(event)
            yield event
    except BaseException as error:
        call.end(error)
        raise
    else:
        call.end(None)
    finally:
        await source.aclose()
