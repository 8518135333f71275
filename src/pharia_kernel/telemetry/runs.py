"""What is told of runs: spans, metrics, and the ids in their log lines."""

from __future__ import annotations

import time
from contextvars import Token
from types import TracebackType
from typing import Self

from pharia_kernel.telemetry import history, metrics, names, scope, tracing
from pharia_kernel.telemetry.loading import Stages


class Tracked:
    """Context of a whole run: its log lines carry its ids, its outcome is counted, and the console
    shows it.

    ``counted`` is false for questions about a skill, which are no runs.
    """

    __slots__ = ("_counted", "_kept", "_name", "_run", "_token")

    def __init__(self, namespace: str, name: str, run_id: str, *, counted: bool = True) -> None:
        self._counted = counted
        self._run = scope.Run(run_id, namespace, f"{namespace}/{name}")
        self._name = name

    def __enter__(self) -> Self:
        here = scope.current()
        self._token: Token[scope.Scope] = scope.enter(here.with_run(self._run))
        self._kept = self._keep(here) if self._counted else None
        return self

    def _keep(self, here: scope.Scope) -> history.RunRecord | None:
        kept = history.current()
        if kept is None:
            return None
        recording = here.span.recording if here.span else None
        return kept.begin(*self._run, recording or history.Recording(here.trace_id))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope.leave(self._token)
        if self._counted:
            outcome = "ok" if error is None else metrics.code_of(error)
            metrics.run_ended(self._run.namespace, self._name, outcome)
            if self._kept:
                self._kept.end(error, outcome)


class Fetch:
    """Context in which a configured skill is found and lent: the span ``load_skill``."""

    __slots__ = ("_began", "_cold", "_labels", "_since", "_span", "_stages")

    def __init__(self, namespace: str, name: str, *, cold: bool) -> None:
        self._labels = namespace, name
        self._cold = cold
        self._stages: Stages | None = None

    def of(self, stages: Stages) -> None:
        """What was waited for, if anything."""
        self._stages = stages

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._span = tracing.span(names.LOAD_SKILL).__enter__()
        self._since = time.time_ns()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._span:
            self._span.set(names.COLD, self._cold)
            if self._stages and self._cold:
                self._stages.record(self._since)
        self._span.__exit__(kind, error, traceback)
        metrics.skill_fetched(*self._labels, time.monotonic() - self._began, cold=self._cold)


class Execution:
    """Context in which the engine has the run: the span ``skill_execution``."""

    __slots__ = ("_began", "_name", "_namespace", "_span")

    def __init__(self, namespace: str, name: str, run_id: str, digest: str | None = None) -> None:
        self._namespace, self._name = namespace, name
        self._span = span = tracing.span(names.SKILL_EXECUTION)
        if span:
            span.set(names.SKILL, f"{namespace}/{name}")
            span.set(names.RUN_ID, run_id)
            span.set(names.DIGEST, digest)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._span.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = time.monotonic() - self._began
        metrics.skill_executed(self._namespace, self._name, error, seconds)
        self._span.__exit__(kind, error, traceback)


class StreamClock:
    """Times a message stream from the moment that it was asked for."""

    __slots__ = ("_began", "_first", "_labels")

    def __init__(self, namespace: str, name: str) -> None:
        self._labels = namespace, name
        self._began = time.monotonic()
        self._first = True

    def event(self) -> None:
        if self._first:
            self._first = False
            metrics.stream_began(*self._labels, time.monotonic() - self._began)

    def end(self) -> None:
        metrics.stream_ended(*self._labels, time.monotonic() - self._began)
