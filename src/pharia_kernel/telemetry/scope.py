"""What the current task is working on: its trace, its span, its run."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pharia_kernel.telemetry.tracing import Recorded


class Run(NamedTuple):
    """The run that log lines belong to."""

    id: str
    namespace: str
    skill: str
    """``namespace/name``."""


class Scope:
    """Immutable; tasks inherit it."""

    __slots__ = ("run", "sampled", "span", "span_id", "state", "trace_id")

    def __init__(
        self,
        trace_id: str | None = None,
        span_id: str | None = None,
        state: str | None = None,
        span: Recorded | None = None,
        run: Run | None = None,
        sampled: bool | None = None,
    ) -> None:
        self.trace_id = trace_id
        """32 hexadecimal digits; none if there is no trace."""
        self.span_id = span_id
        """16 hexadecimal digits, of the kernel's own span, whether it is recorded or not."""
        self.state = state
        """The caller's ``tracestate``."""
        self.span = span
        """None unless the spans of the trace are recorded."""
        self.run = run
        self.sampled = sampled
        """Whether the trace is exported; none while none is."""

    @property
    def headers(self) -> Mapping[str, str]:
        """W3C trace context to send upstream; empty while nothing is exported."""
        if self.sampled is None:
            return {}
        headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-0{int(self.sampled)}"}
        if self.state:
            headers["tracestate"] = self.state
        return headers

    def with_run(self, run: Run) -> Scope:
        return Scope(self.trace_id, self.span_id, self.state, self.span, run, self.sampled)


_NOWHERE = Scope()
_current: ContextVar[Scope] = ContextVar("telemetry_scope", default=_NOWHERE)


def current() -> Scope:
    return _current.get()


def enter(scope: Scope) -> Token[Scope]:
    """Make it the current one, until ``leave``, or until the task ends."""
    return _current.set(scope)


def leave(token: Token[Scope]) -> None:
    _current.reset(token)
