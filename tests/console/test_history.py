"""Runs that are kept in memory, whether or not traces are exported."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pharia_kernel.config import Settings
from pharia_kernel.console import reports
from pharia_kernel.console.otlp import KeyValue, OtlpSpan, Status, plain
from pharia_kernel.csi.types import CallContext, ChatParams, ChatRequest, Message
from pharia_kernel.errors import SkillFailed
from pharia_kernel.telemetry import history, names, runs, scope, tracing
from pharia_kernel.telemetry.generation import Generation, capture_content
from pharia_kernel.telemetry.history import (
    MAX_ATTRIBUTES,
    MAX_EVENTS,
    MAX_SIZE,
    MAX_SPANS,
    MAX_TEXT,
    History,
    Recording,
    RunRecord,
    SpanRecord,
)
from pharia_kernel.telemetry.service import Telemetry
from tests.telemetry.support import PARENT, SAMPLED, TRACE, UNSAMPLED, exporting


@pytest.fixture
def kept() -> Iterator[History]:
    history.use(History(10))
    found = history.current()
    assert found
    yield found
    history.use(None)


def run_something(
    headers: dict[str, str] | None = None, error: Exception | None = None
) -> tracing.Request:
    with tracing.Request("POST", headers or {}) as request:
        with tracing.span(names.CHECK_PERMISSIONS):
            pass
        with runs.Tracked("dev", "greet", "run-1"), runs.Execution("dev", "greet", "run-1"):
            tracing.current().event(names.OUTPUT, {names.LOG_ORIGINAL: "hello"})
            with tracing.span(names.CHAT) as chat:
                chat.set(names.INPUT_TOKENS, 3)
            if error:
                raise error
        request.span.rename("POST /run")
    return request


def only(kept: History) -> RunRecord:
    (run,) = kept.newest()
    return run


def tree(spans: list[SpanRecord]) -> dict[str, str | None]:
    """Names by the names of their parents, or the id of a parent that is not there."""
    by_id = {span.span_id: span.name for span in spans}
    return {span.name: by_id.get(span.parent_id or "", span.parent_id) for span in spans}


TREE = {
    "POST /run": PARENT,
    names.CHECK_PERMISSIONS: "POST /run",
    names.SKILL_EXECUTION: "POST /run",
    names.CHAT: names.SKILL_EXECUTION,
}


@pytest.mark.parametrize(("headers", "exports"), [(SAMPLED, False), (UNSAMPLED, True)])
def test_without_export(kept: History, headers: dict[str, str], exports: bool) -> None:
    if exports:
        with exporting() as exported:
            run_something(headers)
        assert exported.spans == []
    else:
        run_something(headers)
    run = only(kept)
    assert (run.id, run.skill, run.outcome, run.recording.trace_id) == (
        "run-1",
        "dev/greet",
        "ok",
        TRACE,
    )
    assert tree(kept.spans(run)) == TREE


def test_with_export_the_same_spans_are_kept(kept: History) -> None:
    with exporting() as exported:
        run_something(SAMPLED)
    run = only(kept)
    spans = kept.spans(run)
    assert tree(spans) == TREE
    assert {s.scope.span_id for s in exported.spans} == {span.span_id for span in spans}
    (execution,) = [span for span in spans if span.name == names.SKILL_EXECUTION]
    assert [event.attributes for event in execution.events] == [{names.LOG_ORIGINAL: "hello"}]


def test_what_is_kept_changes_nothing_for_those_who_are_called(kept: History) -> None:
    """Nobody exports the kept spans, so no collector could find a parent among them."""
    with tracing.Request("POST", SAMPLED), tracing.span(names.CHAT) as span:
        assert span
        assert tracing.headers(SAMPLED) == SAMPLED
        assert scope.current().trace_id == TRACE
        assert not tracing.enabled()
    with tracing.Request("POST", {}), tracing.span(names.CHAT):
        assert tracing.headers({}) == {}


def test_nothing_is_kept_where_it_is_switched_off() -> None:
    assert history.current() is None
    with tracing.Request("POST", SAMPLED) as request, tracing.span(names.CHAT) as span:
        assert not span
        assert not request.span
        with runs.Tracked("dev", "greet", "run-1"):
            pass


def test_a_failure_is_told_without_what_the_run_was_given(kept: History) -> None:
    with pytest.raises(SkillFailed):
        run_something(error=SkillFailed("my password is 123"))
    run = only(kept)
    assert run.outcome == "skill_failed"
    assert run.error == {
        "code": "skill_failed",
        "title": SkillFailed.title,
        "fixable_by": str(SkillFailed.fixer),
    }
    failed = {span.name for span in kept.spans(run) if span.failed}
    assert names.SKILL_EXECUTION in failed
    assert "password" not in repr((run, kept.spans(run)))


def test_a_cancelled_run(kept: History) -> None:
    with pytest.raises(asyncio.CancelledError), runs.Tracked("dev", "greet", "run-1"):
        raise asyncio.CancelledError
    run = only(kept)
    assert (run.outcome, run.error) == ("cancelled", None)
    assert kept.spans(run) == []


def test_questions_about_skills_are_no_runs(kept: History) -> None:
    with runs.Tracked("dev", "greet", "question", counted=False):
        pass
    assert list(kept.newest()) == []


def test_a_run_that_goes_on_is_seen(kept: History) -> None:
    with (
        tracing.Request("POST", {}),
        runs.Tracked("dev", "greet", "run-1"),
        runs.Execution("dev", "greet", "run-1"),
    ):
        run = only(kept)
        assert run.outcome is None
        assert {span.end for span in kept.spans(run)} == {None}


@pytest.mark.parametrize("wanted", [True, False])
async def test_prompts_are_kept_if_the_operator_wants_it(wanted: bool) -> None:
    settings = Settings(otel_gen_ai_content_capture=wanted)
    request = ChatRequest("m", [Message(role="user", content="a secret")], ChatParams())
    async with Telemetry(settings):
        kept = history.current()
        assert kept
        with (
            tracing.Request("POST", {}),
            runs.Tracked("dev", "greet", "run-1"),
            Generation("chat", request, CallContext()),
        ):
            capture_content(False)  # for other tests
        assert ("a secret" in repr(kept.spans(only(kept)))) is wanted
    assert history.current() is None


async def test_the_operator_can_switch_it_off() -> None:
    async with Telemetry(Settings(console_runs=0)):
        assert history.current() is None


# --- bounds ---------------------------------------------------------------------------------------


def test_the_oldest_go() -> None:
    kept = History(2)
    for number in range(4):
        kept.begin(str(number), "dev", "dev/greet", Recording(None))
        for trace in (f"{number}a", f"{number}b"):
            kept.reported(trace)
    assert [run.id for run in kept.newest()] == ["3", "2"]
    assert kept.get("1") is None
    assert list(kept._reported) == ["3a", "3b"]


def test_spans_events_and_texts_are_bounded() -> None:
    recording = Recording(None)
    spans = [recording.begin("span", "internal", None) for _ in range(MAX_SPANS + 5)]
    assert (len(recording.spans), recording.dropped) == (MAX_SPANS, 5)
    for _ in range(MAX_EVENTS + 3):
        recording.event(spans[0], "event", 1, {})
    assert (len(spans[0].events), spans[0].dropped_events) == (MAX_EVENTS, 3)
    for number in range(1000):
        recording.set(spans[0].attributes, str(number), "x" * MAX_TEXT * 2)
    texts = [str(value) for value in spans[0].attributes.values()]
    assert len(texts[0]) == MAX_TEXT + 1
    assert sum(map(len, texts)) < MAX_SIZE + 1000
    assert len(texts) <= 64
    assert recording.spans[-1].events == []
    recording.event(spans[-1], "event", 1, {})
    assert (spans[-1].events, spans[1].dropped_events) == ([], 0)


def test_what_others_report_is_bounded_and_foreign() -> None:
    kept = History(5)
    trace = "1" * 32
    span = OtlpSpan(trace_id=trace, span_id="2" * 16, status=Status("x" * 10 * MAX_SIZE, 2))
    many = [("pharia-kernel", span)] * (MAX_SPANS + 3)
    assert reports.keep(kept, many) == 3
    recording = kept.reported(trace)
    texts = [span.status or "" for span in recording.spans]
    assert sum(map(len, texts)) < MAX_SIZE + 10 * MAX_SPANS
    assert {span.service for span in recording.spans} == {"unknown_service"}


@pytest.mark.parametrize("time", [-1, 1 << 64, "9" * 400])
def test_times_of_others_are_times(time: int | str) -> None:
    with pytest.raises(ValueError, match="nanoseconds"):
        OtlpSpan(trace_id="1" * 32, span_id="2" * 16, start_time_unix_nano=time)


def test_only_so_many_attributes_are_looked_at() -> None:
    attributes = [KeyValue(str(number), {"stringValue": "x"}) for number in range(1000)]
    nested = [KeyValue("list", {"arrayValue": {"values": [{"intValue": 1}] * 1000}})]
    assert len(list(plain(attributes))) == MAX_ATTRIBUTES
    assert [len(value) for _, value in plain(nested) if isinstance(value, list)] == [MAX_ATTRIBUTES]
