"""Runs: outcomes, limits, cancellation and streams."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from pharia_kernel.engine.api import (
    BeginAttributes,
    Host,
    MessageAppendItem,
    MessageBeginItem,
    MessageEndItem,
    Refused,
    Returned,
)
from pharia_kernel.errors import (
    CsiError,
    InvalidInput,
    InvalidOutput,
    KernelError,
    Overloaded,
    RunTimedOut,
    ShuttingDown,
    SkillCrashed,
    SkillFailed,
    SkillNotFound,
    SkillNotReady,
    StreamOrderViolation,
    WrongSkillKind,
)
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.deployment import ComponentSource
from pharia_kernel.skills.events import EventBuffer
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.types import (
    MessageAppend,
    MessageBegin,
    MessageEnd,
    NamespaceState,
    NamespaceStatus,
    SkillSettings,
    SkillStatus,
    StreamEvent,
    ToolBegin,
    ToolEnd,
    ToolError,
    VersionState,
)
from tests.skills_layer.support import (
    CALLER,
    PATIENCE,
    Guest,
    Kernel,
    MemoryCalls,
    Settings,
    error_of,
    eventually,
    kernel,
    parse,
)

FUNCTION, STREAM = "function:f", "stream:s"


def deploy(
    k: Kernel, directory: Path, *, function: Guest | None = None, stream: Guest | None = None
) -> Kernel:
    """Skills ``dev/f`` and ``dev/s``."""
    (directory / "f.wasm").write_text(FUNCTION)
    (directory / "s.wasm").write_text(STREAM)
    registry = FileRegistry(directory)
    k.store.configure("dev", {name: ComponentSource(registry, name) for name in "fs"})
    if function:
        k.pool.guests[FUNCTION] = function
    if stream:
        k.pool.guests[STREAM] = stream
    return k


@pytest.fixture
async def k(tmp_path: Path) -> AsyncGenerator[Kernel, None]:
    async with kernel() as made:
        yield deploy(made, tmp_path)


def answers(outcome: Returned | Refused | Exception) -> Guest:
    async def guest(input: bytes, host: Host) -> Returned | Refused:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return guest


class Parked:
    """A guest that waits until it is dropped or released."""

    def __init__(self) -> None:
        self.started = 0
        self.dropped = 0
        self.release = asyncio.Event()

    async def __call__(self, input: bytes, host: Host) -> Returned:
        self.started += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise
        return Returned(b"1")


async def events_of(k: Kernel, path: str = "dev/s") -> list[StreamEvent]:
    events = await k.runtime.message_stream(parse(path), b"null", CALLER)
    return [event async for event in events]


def test_it_is_what_the_shell_expects(k: Kernel) -> None:
    skills: Skills = k.runtime
    assert skills.tools("dev") == [{"name": "dev"}]
    assert skills.mcp_servers("dev") is None


# --- functions ------------------------------------------------------------------------------------


async def test_bytes_in_and_bytes_out(k: Kernel) -> None:
    async def echo(input: bytes, host: Host) -> Returned:
        return Returned(input)

    k.pool.guests[FUNCTION] = echo
    body = b'{"n": 1.0,  "text": "\xc3\xa4"}'
    assert await k.runtime.run(parse("dev/f"), body, CALLER) == body


@pytest.mark.parametrize(
    ("outcome", "error", "text"),
    [
        (Returned(b"{"), InvalidOutput, "output is not JSON"),
        (Returned(b""), InvalidOutput, "output is not JSON"),
        (Returned(b'"\xff"'), InvalidOutput, "output is not JSON"),
        (Refused("internal", "no cheese"), SkillFailed, "no cheese"),
        (Refused("invalid-input", "no name"), InvalidInput, "no name"),
        (SkillCrashed("unreachable"), SkillCrashed, "unreachable"),
        (CsiError("upstream"), CsiError, "upstream"),
        (ZeroDivisionError("secret"), KernelError, "kernel failed"),
    ],
)
async def test_outcomes(k: Kernel, outcome: Any, error: type[KernelError], text: str) -> None:
    k.pool.guests[FUNCTION] = answers(outcome)
    raised = await error_of(k.run("dev/f"))
    assert type(raised) is error
    assert text in raised.detail
    assert raised.problem()["skill"] == "dev/f"
    assert len(raised.problem()["run_id"]) == 32


async def test_the_host_calls_know_who_calls(k: Kernel) -> None:
    async def guest(input: bytes, host: Host) -> Returned:
        return Returned(await host.call("echo", input))

    k.pool.guests[FUNCTION] = guest
    assert await k.run("dev/f", b"[1]") == [1]
    (calls,) = MemoryCalls.opened
    assert calls.closed
    assert calls.context.token == "secret"
    assert (calls.context.namespace, calls.context.skill) == ("dev", "dev/f")
    assert calls.context.trace_headers == {"traceparent": "00-1-2-01"}
    remaining = calls.context.remaining()
    assert remaining is not None and 0 < remaining <= PATIENCE


async def test_tool_events_of_functions_are_dropped_and_never_block(k: Kernel) -> None:
    async def guest(input: bytes, host: Host) -> Returned:
        for _ in range(10 * EventBuffer.LIMIT):
            await host.call("tool:add", b"")
        raise CsiError("after the tools")

    k.pool.guests[FUNCTION] = guest
    assert type(await error_of(k.run("dev/f"))) is CsiError


async def test_a_function_cannot_stream(k: Kernel) -> None:
    async def guest(input: bytes, host: Host) -> Returned:
        host.emit(MessageBeginItem(BeginAttributes()), lambda: None)
        return Returned(b"1")

    k.pool.guests[FUNCTION] = guest
    assert isinstance(await error_of(k.run("dev/f")), StreamOrderViolation)


async def test_the_wrong_kind_names_the_right_endpoint(k: Kernel) -> None:
    error = await error_of(k.run("dev/s"))
    assert isinstance(error, WrongSkillKind)
    assert "/v1/skills/dev/s/message-stream" in error.detail
    error = await error_of(k.runtime.message_stream(parse("dev/f"), b"null", CALLER))
    assert isinstance(error, WrongSkillKind)
    assert "/v1/skills/dev/f/run" in error.detail


# --- limits ---------------------------------------------------------------------------------------


async def test_the_deadline_ends_a_run(tmp_path: Path) -> None:
    parked = Parked()
    async with kernel(settings=Settings(run_timeout=0.05)) as k:
        deploy(k, tmp_path, function=parked)
        await eventually(lambda: len(k.store.cached()) == 2)
        assert isinstance(await error_of(k.run("dev/f")), RunTimedOut)
        assert parked.dropped == 1


async def test_waiting_for_a_skill_is_bounded_by_the_deadline(tmp_path: Path) -> None:
    async with kernel(settings=Settings(run_timeout=0.05)) as k:
        k.compiler.gates[FUNCTION] = asyncio.Event()
        deploy(k, tmp_path)
        error = await error_of(k.run("dev/f"))
        assert isinstance(error, SkillNotReady)
        assert error.retryable and error.retry_after


async def test_one_skill_cannot_have_more_than_its_runs(tmp_path: Path) -> None:
    parked = Parked()
    async with kernel(settings=Settings(max_runs_per_skill=2)) as k:
        deploy(k, tmp_path, function=parked)
        running = [asyncio.create_task(k.run("dev/f")) for _ in range(2)]
        await eventually(lambda: parked.started == 2)
        error = await error_of(k.run("dev/f"))
        assert isinstance(error, Overloaded)
        assert error.retry_after
        assert await events_of(k) == []  # another skill is not concerned
        parked.release.set()
        assert await asyncio.gather(*running) == [1, 1]
        assert await k.run("dev/f") == 1


async def test_requests_that_wait_for_a_skill_count_as_its_runs(tmp_path: Path) -> None:
    async with kernel(settings=Settings(max_runs_per_skill=1)) as k:
        k.compiler.gates[FUNCTION] = asyncio.Event()
        deploy(k, tmp_path)
        waiting = asyncio.create_task(k.run("dev/f"))
        await eventually(lambda: FUNCTION in k.compiler.started)
        assert isinstance(await error_of(k.run("dev/f")), Overloaded)
        k.compiler.gates[FUNCTION].set()
        await waiting


# --- settings of a skill --------------------------------------------------------------------------


def set_up(k: Kernel, directory: Path, **settings: Any) -> None:
    """Give the skills of ``deploy`` these settings."""
    registry = FileRegistry(directory)
    chosen = SkillSettings(**settings)
    k.store.configure("dev", {n: ComponentSource(registry, n, settings=chosen) for n in "fs"})


async def test_a_skill_may_have_a_shorter_time_limit(k: Kernel, tmp_path: Path) -> None:
    parked = k.pool.guests[FUNCTION] = k.pool.guests[STREAM] = Parked()
    await eventually(lambda: len(k.store.cached()) == 2)
    set_up(k, tmp_path, run_timeout=0.05)
    assert isinstance(await error_of(k.run("dev/f")), RunTimedOut)
    assert isinstance(await error_of(events_of(k)), RunTimedOut)
    assert parked.dropped == 2


async def test_no_skill_gets_more_than_the_kernel_allows(tmp_path: Path) -> None:
    parked = Parked()
    async with kernel(settings=Settings(run_timeout=0.05, max_runs_per_skill=1)) as k:
        deploy(k, tmp_path, function=parked)
        await eventually(lambda: len(k.store.cached()) == 2)
        set_up(k, tmp_path, run_timeout=PATIENCE, max_runs=5)
        running = asyncio.create_task(k.run("dev/f"))
        await eventually(lambda: parked.started)
        error = await error_of(k.run("dev/f"))
        assert isinstance(error, Overloaded)
        assert "`max-runs-per-skill`" in error.detail
        assert isinstance(await error_of(running), RunTimedOut)


async def test_a_skill_may_have_fewer_runs(k: Kernel, tmp_path: Path) -> None:
    parked = k.pool.guests[FUNCTION] = Parked()
    set_up(k, tmp_path, max_runs=1)
    running = asyncio.create_task(k.run("dev/f"))
    await eventually(lambda: parked.started)
    error = await error_of(k.run("dev/f"))
    assert isinstance(error, Overloaded)
    assert "1 runs" in error.detail and "`max-runs`" in error.detail

    set_up(k, tmp_path, max_runs=2)
    second = asyncio.create_task(k.run("dev/f"))
    await eventually(lambda: parked.started == 2)
    parked.release.set()
    assert list(await asyncio.gather(running, second)) == [1, 1]


async def test_a_skill_may_have_less_memory(k: Kernel, tmp_path: Path) -> None:
    await k.run("dev/f")
    set_up(k, tmp_path, memory_limit=1 << 20)
    await k.run("dev/f")
    await events_of(k)
    assert k.pool.memory_limits == [None, 1 << 20, 1 << 20]


async def test_a_skill_may_have_some_tools_only(k: Kernel, tmp_path: Path) -> None:
    await k.run("dev/f")
    set_up(k, tmp_path, allowed_tools=("add",))
    await k.run("dev/f")
    await events_of(k)
    set_up(k, tmp_path, allowed_tools=())
    await k.run("dev/f")
    allowed = [calls.context.allowed_tools for calls in MemoryCalls.opened]
    assert allowed == [None, {"add"}, {"add"}, set()]


# --- what operators see ---------------------------------------------------------------------------


def status(name: str, state: NamespaceState = NamespaceState.OK) -> NamespaceStatus:
    return NamespaceStatus(
        name=name, state=state, form="directory", source=f"skills/{name}", generation=1
    )


async def test_namespaces_tell_the_state_of_their_skills(tmp_path: Path) -> None:
    statuses = [status("empty", NamespaceState.BROKEN), status("dev")]
    async with kernel(namespace_statuses=lambda: statuses) as k:
        deploy(k, tmp_path)
        (tmp_path / "f.wasm").write_text("garbage")
        await eventually(lambda: k.store.states("dev")[SkillStatus.PREPARING] == 0)
        dev, empty = k.runtime.namespaces()
        assert (dev.name, dev.source, empty.state) == ("dev", "skills/dev", "broken")
        assert dev.skill_states == {"preparing": 0, "ready": 1, "failed": 1}
        assert empty.skill_states == {"preparing": 0, "ready": 0, "failed": 0}

        detail = k.runtime.namespace("dev")
        assert detail
        assert [(str(s.path), s.status) for s in detail.skills] == [
            ("dev/f", SkillStatus.FAILED),
            ("dev/s", SkillStatus.READY),
        ]
        assert detail.skills[0].history[0].failed_at is VersionState.COMPILED
        assert detail.tools == [{"name": "dev"}]
        assert detail.mcp_servers == []
        assert k.runtime.namespace("other") is None

        states = k.runtime.readiness()["namespaces"]["states"]
        assert states == {"dev": "ok", "empty": "broken"}


async def test_refreshing_looks_at_the_description_and_the_registries(tmp_path: Path) -> None:
    async with kernel(namespace_statuses=lambda: [status("dev")]) as k:
        deploy(k, tmp_path)
        assert await k.run("dev/f") == FUNCTION
        (tmp_path / "f.wasm").write_text("function:new")
        assert k.runtime.refresh("dev")
        assert k.refreshed == ["dev"]
        await eventually(lambda: "function:new" in k.pool.loaded)
        assert not k.runtime.refresh("other")
        assert k.refreshed == ["dev"]


# --- cancellation and shutdown --------------------------------------------------------------------


async def test_cancelling_a_run_drops_the_guest(k: Kernel) -> None:
    parked = k.pool.guests[FUNCTION] = Parked()
    running = asyncio.create_task(k.run("dev/f"))
    await eventually(lambda: parked.started)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert parked.dropped == 1
    assert all(calls.closed for calls in MemoryCalls.opened)


async def test_shutdown_lets_runs_finish(k: Kernel) -> None:
    parked = k.pool.guests[FUNCTION] = Parked()
    running = asyncio.create_task(k.run("dev/f"))
    await eventually(lambda: parked.started)
    closing = asyncio.create_task(k.runtime.close(PATIENCE))
    await asyncio.sleep(0)
    assert isinstance(await error_of(k.run("dev/f")), ShuttingDown)
    parked.release.set()
    assert await running == 1
    await closing


async def test_shutdown_ends_what_does_not_finish(k: Kernel) -> None:
    k.pool.guests[FUNCTION] = function = Parked()
    k.pool.guests[STREAM] = stream = Parked()
    running = asyncio.create_task(k.run("dev/f"))
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    await eventually(lambda: function.started and stream.started)
    await k.runtime.close(0.0)
    assert isinstance(await error_of(running), ShuttingDown)
    assert isinstance(await error_of(anext(events)), ShuttingDown)
    assert (function.dropped, stream.dropped) == (1, 1)


async def test_a_client_that_leaves_during_shutdown_is_still_cancelled(k: Kernel) -> None:
    parked = k.pool.guests[FUNCTION] = Parked()
    running = asyncio.create_task(k.run("dev/f"))
    await eventually(lambda: parked.started)
    (run,) = k.runtime._runs._active
    run.stop()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


# --- streams --------------------------------------------------------------------------------------


DONE = Returned(b"")


def emitting(*items: Any, then: Returned | Refused | Exception = DONE) -> Guest:
    async def guest(input: bytes, host: Host) -> Returned | Refused:
        for item in items:
            if isinstance(item, str):
                await host.call(item, b"")
            else:
                host.emit(item, lambda: None)
        return await answers(then)(input, host)

    return guest


BEGIN, APPEND, END = (
    MessageBeginItem(BeginAttributes("assistant")),
    MessageAppendItem("x"),
    MessageEndItem(b"1"),
)


async def test_items_and_tool_events_are_merged_in_order(k: Kernel) -> None:
    k.pool.guests[STREAM] = emitting(
        "tool:add", BEGIN, APPEND, "broken-tool:saboteur", APPEND, END, "tool:last"
    )
    assert await events_of(k) == [
        ToolBegin("add"),
        ToolEnd("add"),
        MessageBegin(),
        MessageAppend("x"),
        ToolBegin("saboteur"),
        ToolError("saboteur", "Out of cheese."),
        MessageAppend("x"),
        MessageEnd(Raw(b"1")),
        ToolBegin("last"),
        ToolEnd("last"),
    ]


async def test_a_message_may_stay_open(k: Kernel) -> None:
    k.pool.guests[STREAM] = emitting(BEGIN, APPEND)
    assert await events_of(k) == [MessageBegin(), MessageAppend("x")]


@pytest.mark.parametrize(
    ("guest", "error"),
    [
        (emitting(BEGIN, APPEND, then=Refused("internal", "no")), SkillFailed),
        (emitting(BEGIN, APPEND, then=SkillCrashed("trap")), SkillCrashed),
        (emitting(BEGIN, APPEND, BEGIN, APPEND, END), StreamOrderViolation),
        (emitting(BEGIN, APPEND, MessageEndItem(b"{")), InvalidOutput),
    ],
)
async def test_the_error_comes_after_all_events_and_is_the_last(
    k: Kernel, guest: Guest, error: type[KernelError]
) -> None:
    k.pool.guests[STREAM] = guest
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    got: list[StreamEvent] = []
    with pytest.raises(error) as raised:
        async for event in events:
            got.append(event)
    assert got == [MessageBegin(), MessageAppend("x")]
    assert raised.value.problem()["skill"] == "dev/s"
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_stream_is_only_returned_once_it_is_admitted(k: Kernel) -> None:
    error = await error_of(k.runtime.message_stream(parse("dev/nothing"), b"null", CALLER))
    assert isinstance(error, SkillNotFound)
    k.pool.guests[STREAM] = answers(Overloaded("full", retry_after=1.0))
    error = await error_of(k.runtime.message_stream(parse("dev/s"), b"null", CALLER))
    assert isinstance(error, Overloaded)
    assert error.retry_after == 1.0


async def test_a_guest_that_fails_later_fails_inside_the_stream(k: Kernel) -> None:
    async def guest(input: bytes, host: Host) -> Refused:
        await host.call("anything", b"")
        await asyncio.sleep(0)
        return Refused("internal", "no")

    k.pool.guests[STREAM] = guest
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    assert isinstance(await error_of(anext(events)), SkillFailed)


async def test_items_are_consumed_when_the_client_has_taken_them(k: Kernel) -> None:
    consumed: list[int] = []

    async def guest(input: bytes, host: Host) -> Returned:
        host.emit(BEGIN, lambda: consumed.append(0))
        for n in range(1, 4):
            host.emit(APPEND, lambda n=n: consumed.append(n))  # type: ignore[misc]
        return Returned(b"")

    k.pool.guests[STREAM] = guest
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    assert consumed == []
    await anext(events)
    await anext(events)
    assert consumed == [0]
    assert len([event async for event in events]) == 2
    assert consumed == [0, 1, 2, 3]


async def test_a_guest_that_only_calls_tools_waits_for_the_client(k: Kernel) -> None:
    calls = 0

    async def guest(input: bytes, host: Host) -> Returned:
        nonlocal calls
        while calls < 10_000:
            calls += 1
            await host.call("tool:add", b"")
        return Returned(b"")

    k.pool.guests[STREAM] = guest
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    await eventually(lambda: calls * 2 >= EventBuffer.LIMIT)
    for _ in range(100):
        await asyncio.sleep(0)
    assert calls * 2 <= EventBuffer.LIMIT + 2
    assert len([event async for event in events]) == 20_000


async def test_closing_the_stream_drops_the_guest(k: Kernel) -> None:
    parked = Parked()

    async def guest(input: bytes, host: Host) -> Returned:
        host.emit(BEGIN, lambda: None)
        return await parked(input, host)

    k.pool.guests[STREAM] = guest
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    assert await anext(events) == MessageBegin()
    await events.aclose()
    assert parked.dropped == 1
    assert all(calls.closed for calls in MemoryCalls.opened)
    assert len(k.runtime._runs) == 0


async def test_closing_a_stream_that_nobody_read_drops_the_guest(k: Kernel) -> None:
    parked = k.pool.guests[STREAM] = Parked()
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    await events.aclose()
    assert parked.dropped == parked.started
    assert len(k.runtime._runs) == 0


async def test_a_client_that_leaves_while_it_waits_for_an_event(k: Kernel) -> None:
    parked = k.pool.guests[STREAM] = Parked()
    events = await k.runtime.message_stream(parse("dev/s"), b"null", CALLER)
    reader = asyncio.ensure_future(anext(events))
    await eventually(lambda: parked.started)
    reader.cancel()
    await asyncio.wait({reader})
    assert parked.dropped == 1


async def test_a_client_that_leaves_before_the_stream_is_admitted(tmp_path: Path) -> None:
    async with kernel() as k:
        k.compiler.gates[STREAM] = asyncio.Event()
        deploy(k, tmp_path)
        request = asyncio.create_task(k.runtime.message_stream(parse("dev/s"), b"null", CALLER))
        await eventually(lambda: STREAM in k.compiler.started)
        request.cancel()
        await asyncio.wait({request})
        assert request.cancelled()
        assert len(k.runtime._runs) == 0


# --- the log --------------------------------------------------------------------------------------


async def test_every_run_leaves_one_line(k: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pharia_kernel.skills.runs")

    def logged() -> list[tuple[str, str]]:
        records = [r for r in caplog.records if r.name == "pharia_kernel.skills.runs"]
        return [(record.levelname, record.getMessage()) for record in records]

    await k.run("dev/f")
    k.pool.guests[FUNCTION] = answers(SkillCrashed("line\nbreak"))
    await error_of(k.run("dev/f"))
    await error_of(k.run("dev/unknown\n"))
    k.pool.guests[FUNCTION] = answers(CsiError("upstream"))
    await error_of(k.run("dev/f"))

    (ok, crashed, unknown, upstream) = logged()
    assert ok[0] == "INFO" and ok[1].startswith("Skill executed successfully: skill=dev/f run=")
    assert crashed[0] == "WARNING" and "error=skill_crashed: line\\nbreak" in crashed[1]
    assert "duration=0." in crashed[1]
    assert unknown[0] == "INFO" and "error=skill_not_found" in unknown[1] and "\n" not in unknown[1]
    assert upstream[0] == "ERROR" and upstream[1].startswith("Skill invocation failed")


async def test_output_of_the_guest_is_logged(k: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pharia_kernel.skill")

    async def guest(input: bytes, host: Host) -> Returned:
        host.output("stdout", b"hello ")
        host.output("stdout", b"log")
        raise SkillCrashed("after printing")

    k.pool.guests[FUNCTION] = guest
    await error_of(k.run("dev/f"))
    assert "[dev/f] hello log" in [record.getMessage() for record in caplog.records]
