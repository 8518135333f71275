from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from pharia_kernel.errors import SkillFailed
from pharia_kernel.telemetry import history, loading, names, runs, scope, tracing
from pharia_kernel.telemetry.tracing import Exporting
from tests.telemetry.support import (
    PARENT,
    SAMPLED,
    TRACE,
    UNSAMPLED,
    Exported,
    exporting,
)


@pytest.fixture
def recorded() -> Iterator[Exported]:
    with exporting() as spans:
        yield spans


# --- requests -------------------------------------------------------------------------------------


def test_a_request_continues_the_trace_of_its_caller(recorded: Exported) -> None:
    with tracing.Request("GET /", SAMPLED) as request:
        assert scope.current().trace_id == TRACE
        assert scope.current().span_id != PARENT
    span = recorded["GET /"]
    assert (span.kind, span.parent) == ("server", PARENT)
    assert request.scope.headers == {
        "traceparent": f"00-{TRACE}-{request.scope.span_id}-01",
        "tracestate": "vendor=1",
    }


def test_the_callers_decision_counts_and_not_the_ratio() -> None:
    with exporting(ratio=0.0) as recorded:
        with tracing.Request("sampled", SAMPLED):
            pass
        with tracing.Request("not", {}):
            pass
    assert [span.name for span in recorded.spans] == ["sampled"]


def test_a_trace_that_is_not_sampled_has_ids_and_no_spans(recorded: Exported) -> None:
    with tracing.Request("GET /", UNSAMPLED) as request:
        here = scope.current()
        assert here.trace_id == TRACE and here.span_id not in (None, PARENT)
        assert here.headers["traceparent"] == f"00-{TRACE}-{here.span_id}-00"
        assert not tracing.span("child")
        assert not request.span
    assert recorded.spans == []


def test_without_an_exporter_the_callers_context_is_passed_on() -> None:
    with tracing.Request("GET /", SAMPLED):
        assert scope.current().trace_id == TRACE
        assert tracing.headers({"traceparent": "of the caller"}) == {"traceparent": "of the caller"}
        with tracing.span("child") as span:
            assert not span
            span.set("key", "value")
            span.event("event", {})
            span.fail("code")
    assert scope.current().trace_id is None


def test_requests_without_a_context_begin_a_trace(recorded: Exported) -> None:
    with tracing.Request("one", {}), tracing.span("child"):
        pass
    with tracing.Request("two", {}):
        pass
    assert recorded["one"].parent is None
    assert recorded.parent("child") == "one"
    assert recorded["one"].scope.trace_id != recorded["two"].scope.trace_id


# --- spans ----------------------------------------------------------------------------------------


def test_spans_nest_across_tasks(recorded: Exported) -> None:
    async def child(name: str) -> None:
        with tracing.span(name):
            await asyncio.sleep(0)

    async def main() -> None:
        with tracing.Request("root", {}), tracing.span("batch"):
            await asyncio.gather(child("a"), child("b"))

    asyncio.run(main())
    assert recorded.parent("a") == recorded.parent("b") == "batch"
    assert recorded.parent("batch") == "root"


def test_outgoing_headers_are_those_of_the_innermost_span(recorded: Exported) -> None:
    with tracing.Request("root", SAMPLED), tracing.span("inner") as span:
        headers = tracing.headers({})
        assert dict(span.headers) == headers
    inner = recorded["inner"].scope.span_id
    assert headers == {"traceparent": f"00-{TRACE}-{inner}-01", "tracestate": "vendor=1"}


def test_errors_of_the_kernel_are_named_by_their_code(recorded: Exported) -> None:
    with pytest.raises(SkillFailed), tracing.Request("root", {}), tracing.span("inner"):
        raise SkillFailed("The secret is 1234.")
    span = recorded["inner"]
    assert span.attributes == {names.ERROR_TYPE: "skill_failed"}
    assert span.failed and span.description == SkillFailed.title
    assert span.events == []


def test_unexpected_errors_are_named_by_their_class(recorded: Exported) -> None:
    with pytest.raises(KeyError), tracing.Request("root", {}), tracing.span("inner"):
        raise KeyError("secret")
    assert recorded["inner"].attributes == {names.ERROR_TYPE: "KeyError"}
    assert recorded["inner"].failed


async def test_a_cancelled_span_ends_without_blame(recorded: Exported) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        with tracing.Request("root", {}), tracing.span("inner"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait({task})
    assert recorded["inner"].attributes == {names.ERROR_TYPE: "cancelled"}
    assert not recorded["inner"].failed


def test_events_are_bounded(recorded: Exported) -> None:
    with tracing.Request("root", {}) as request:
        for number in range(tracing.MAX_EVENTS + 10):
            request.span.event("line", {"number": number})
    events = recorded["root"].events
    assert len(events) == tracing.MAX_EVENTS
    assert events[0].attributes == {"number": 0}


async def test_a_generators_steps_run_within_its_span(recorded: Exported) -> None:
    async def events() -> AsyncGenerator[str | None, None]:
        for _ in range(2):
            yield scope.current().span_id

    with tracing.Request("root", {}) as request:
        span = tracing.span("stream")
        seen = []
        async for event in span.around(events()):
            seen.append(event)
            assert scope.current() is request.scope
        span.end()
    assert seen == [recorded["stream"].scope.span_id] * 2


async def test_what_is_around_a_generator_closes_it(recorded: Exported) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with tracing.Request("root", {}):
        events = tracing.span("stream").around(endless())
        await anext(events)
        await events.aclose()
    assert closed.is_set()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_ratio_is_a_share_of_traces(share: float) -> None:
    """The decision is the same wherever it is made, with the SDK as the reference."""
    ours, sdks = Exporting(print, share), TraceIdRatioBased(share)
    ids = [number * 0x9E3779B97F4A7C15 % 2**128 for number in range(1, 400)]
    decisions = [sdks.should_sample(None, id, "x").decision for id in ids]
    assert [ours.samples(id) for id in ids] == [d is Decision.RECORD_AND_SAMPLE for d in decisions]


def test_text_that_cannot_be_encoded_or_is_too_long(recorded: Exported) -> None:
    with tracing.Request("root", {}) as request:
        request.span.set("broken", "a\ud800b")
        request.span.set("long", "x" * (tracing.MAX_TEXT + 1))
    assert recorded["root"].attributes["broken"] == "a?b"
    assert len(str(recorded["root"].attributes["long"])) == tracing.MAX_TEXT


# --- for the console ------------------------------------------------------------------------------


@pytest.fixture
def kept() -> Iterator[history.History]:
    kept = history.History(10)
    history.use(kept)
    yield kept
    history.use(None)


def test_the_console_sees_spans_that_are_not_exported(kept: history.History) -> None:
    with (
        exporting(ratio=0.0) as recorded,
        tracing.Request("GET /", {}) as request,
        tracing.span("child") as child,
    ):
        child.set("key", "value")
        child.event("line", {"text": "hello"})
        assert dict(child.headers)["traceparent"].endswith("-00")
    assert recorded.spans == []
    assert isinstance(request.span, tracing.Recorded) and request.span.recording
    root, inner = request.span.recording.spans
    assert (root.name, inner.name, inner.parent_id) == ("GET /", "child", root.span_id)
    assert inner.attributes == {"key": "value"} and inner.events[0].name == "line"
    assert root.end and inner.end


def test_the_console_changes_nothing_that_is_sent_upstream(kept: history.History) -> None:
    with tracing.Request("GET /", SAMPLED), tracing.span("child") as span:
        assert span
        assert tracing.headers({"traceparent": "of the caller"}) == {"traceparent": "of the caller"}


# --- runs -----------------------------------------------------------------------------------------


def test_those_who_wait_for_a_load_get_its_stages(recorded: Exported) -> None:
    stages = loading.Stages()
    with tracing.Request("root", {}):
        with runs.Fetch("dev", "greet", cold=True) as fetch:
            with stages.stage(names.DOWNLOAD):
                pass
            with pytest.raises(KeyError), stages.stage(names.COMPILE):
                raise KeyError
            fetch.of(stages)
        with runs.Fetch("dev", "greet", cold=False) as fetch:
            fetch.of(stages)
    loads = [span for span in recorded.spans if span.name == names.LOAD_SKILL]
    assert [span.attributes for span in loads] == [{"cold": True}, {"cold": False}]
    assert {span.name for span in recorded.spans} == {"root", "load_skill", "download", "compile"}
    for name in ("download", "compile"):
        assert recorded[name].parent == loads[0].scope.span_id
    assert recorded["compile"].attributes[names.ERROR_TYPE] == "KeyError"


def test_a_stage_begins_for_a_request_when_that_begins_to_wait(recorded: Exported) -> None:
    stages = loading.Stages()
    with stages.stage(names.DOWNLOAD):
        pass
    with (
        tracing.Request("root", {}),
        stages.stage(names.COMPILE),
        runs.Fetch("dev", "greet", cold=True) as fetch,
    ):
        fetch.of(stages)
    load, download, compile_ = (recorded[n] for n in ("load_skill", "download", "compile"))
    assert download.begin == download.ended == compile_.begin
    assert compile_.ended and compile_.ended > compile_.begin >= load.begin
    assert float(str(download.attributes["seconds"])) > 0


def test_log_lines_know_the_run() -> None:
    with runs.Tracked("dev", "greet", "r1"):
        assert scope.current().run == scope.Run("r1", "dev", "dev/greet")
    assert scope.current().run is None
