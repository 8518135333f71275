"""Real engines, and the kernel's side of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from pharia_kernel.engine.api import (
    Artifact,
    MessageAppendItem,
    MessageBeginItem,
    MessageEndItem,
    ReasoningItem,
    Refused,
    Returned,
)
from pharia_kernel.engine.guest import WINDOW_BYTES, WINDOW_ITEMS
from pharia_kernel.engine.hostapi import MAX_OPEN_STREAMS
from pharia_kernel.engine.pool import Pool, Quarantine
from pharia_kernel.engine.worker import TRUNCATED
from pharia_kernel.errors import (
    CompileFailed,
    EngineLost,
    KernelError,
    Overloaded,
    RunTimedOut,
    ShuttingDown,
    SkillBug,
    SkillCrashed,
    SkillNotReady,
    SkillQuarantined,
    UpstreamTimeout,
)
from tests.engine import guests
from tests.support.components import (
    MIB,
    Artifacts,
    NewPool,
    RecordingHost,
    eventually,
    pool_settings,
    soon,
)


async def run(pool: Pool, artifact: Artifact, input: bytes = b"input", **host: Any) -> bytes:
    """Output of a run that is expected to end well."""
    outcome = await pool.run(artifact, input, RecordingHost(**host), deadline=soon())
    assert isinstance(outcome, Returned), outcome
    return outcome.value


class Gate:
    """Answers calls once it is open."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.asked: list[str] = []
        self.cancelled: list[str] = []

    def open(self) -> None:
        self.opened.set()

    async def __call__(self, _function: str, arguments: Any) -> Any:
        """The answer to select-language is the text."""
        text = arguments[0][0]["text"]
        self.asked.append(text)
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        return [text]

    async def has_been_asked(self, times: int) -> None:
        await eventually(lambda: len(self.asked) >= times)


def parked(pool: Pool, artifact: Artifact, gate: Gate, *names: str) -> list[asyncio.Task[bytes]]:
    """Runs of ``ask``."""
    return [asyncio.create_task(run(pool, artifact, n.encode(), answer=gate)) for n in names]


def pids(pool: Pool) -> list[int]:
    return [engine["pid"] for engine in pool.statistics()["engines"]]


@pytest.fixture
def ask(artifacts: Artifacts) -> Artifact:
    return artifacts.of(guests.ask())


# --- runs


async def test_a_function_returns_bytes(new_pool: NewPool, artifacts: Artifacts) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo)
    for data in (b"", b"\0", "häß".encode(), b"x" * MIB):
        assert await run(pool, echo, data) == data


async def test_a_stream_emits_its_items(new_pool: NewPool, artifacts: Artifacts) -> None:
    stream, reasoning = artifacts("tiny_stream"), artifacts("reasoning_04")
    pool = await new_pool(stream, reasoning)
    host = RecordingHost()
    assert await pool.run(stream, b"", host, deadline=soon()) == Returned(b"")
    begin, *appends, end = host.items
    assert isinstance(begin, MessageBeginItem)
    assert begin.attributes.role is None
    assert appends == [MessageAppendItem("text"), MessageAppendItem("text")]
    assert end == MessageEndItem(b'{"done": true}')
    host = RecordingHost()
    await pool.run(reasoning, b"", host, deadline=soon())
    assert host.items[1] == ReasoningItem("text")
    assert host.items[-1] == MessageEndItem(None)


async def test_metadata_of_a_real_skill(new_pool: NewPool, artifacts: Artifacts) -> None:
    greet = artifacts("greet")
    pool = await new_pool(greet, memory_limit=512 * MIB)
    metadata = await pool.metadata(greet, RecordingHost(), deadline=soon())
    assert metadata.description == "Greets a person by name."
    assert json.loads(metadata.input_schema)["properties"]["name"]["minLength"] == 1
    assert json.loads(metadata.output_schema)["type"] == "string"


async def test_runs_do_not_share_memory(new_pool: NewPool, artifacts: Artifacts) -> None:
    """Each instance hands out memory from the same address; results would mix if they shared it."""
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo)
    texts = [f"text {i}".encode() * 1000 for i in range(100)]
    assert await asyncio.gather(*(run(pool, echo, text) for text in texts)) == texts


async def test_inputs_and_outputs_of_many_bytes(new_pool: NewPool, artifacts: Artifacts) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo, memory_limit=128 * MIB)
    text = b"x" * (20 * MIB)
    assert await run(pool, echo, text) == text


async def test_an_input_that_is_no_text_is_refused(new_pool: NewPool, artifacts: Artifacts) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo)
    outcome = await pool.run(echo, b"a\xff", RecordingHost(), deadline=soon())
    assert outcome == Refused("invalid-input", "it is not UTF-8: invalid start byte at byte 1")
    assert await run(pool, echo, b"next") == b"next"
    assert pool.restarts == 0


# --- what guests print


async def test_what_a_guest_prints_is_captured(new_pool: NewPool, artifacts: Artifacts) -> None:
    printer = artifacts("printer")
    pool = await new_pool(printer, memory_limit=512 * MIB)
    host = RecordingHost()
    await pool.run(printer, b'{"lines": 2, "text": "h\xc3\xa4"}', host, deadline=soon())
    assert host.printed == {
        "stdout": "hä 0 to stdout\nhä 1 to stdout\n".encode(),
        "stderr": "hä 0 to stderr\nhä 1 to stderr\n".encode(),
    }


async def test_what_a_guest_prints_is_bounded(new_pool: NewPool, artifacts: Artifacts) -> None:
    printer = artifacts("printer")
    pool = await new_pool(printer, memory_limit=512 * MIB, output_limit=1000)
    host = RecordingHost()
    await pool.run(printer, b'{"lines": 100}', host, deadline=soon())
    both = host.printed["stdout"] + host.printed["stderr"]
    assert both.count(TRUNCATED) == 1
    assert len(both) == 1000 + len(TRUNCATED)
    host = RecordingHost()
    await pool.run(printer, b'{"lines": 1}', host, deadline=soon())
    assert TRUNCATED not in host.printed["stderr"], "the bound holds for each run"


# --- time


async def test_sleeping_guests_overlap_and_block_nobody(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    sleeper, echo = artifacts("sleeper"), artifacts("tiny_echo")
    pool = await new_pool(sleeper, echo, memory_limit=512 * MIB)
    pid = pids(pool)
    began = time.monotonic()
    sleepers = [asyncio.create_task(run(pool, sleeper, b'{"seconds": 1}')) for _ in range(6)]
    count = 0
    while not any(task.done() for task in sleepers):
        await run(pool, echo)
        count += 1
    assert await asyncio.gather(*sleepers) == [b'"slept"'] * 6
    assert time.monotonic() - began < 4, "one after the other they take 6 s"
    assert count > 20
    assert pids(pool) == pid


async def test_a_sleeping_guest_ends_at_its_deadline(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    sleeper = artifacts("sleeper")
    pool = await new_pool(sleeper, memory_limit=512 * MIB)
    with pytest.raises(RunTimedOut, match="`run-timeout`"):
        await pool.run(sleeper, b'{"seconds": 3600}', RecordingHost(), deadline=soon(0.3))
    await eventually(lambda: pool.active_runs() == 0)
    assert pool.restarts == 0


async def test_a_loop_in_python_ends_at_its_deadline(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    spin, echo = artifacts("spin"), artifacts("tiny_echo")
    pool = await new_pool(spin, echo, memory_limit=512 * MIB)
    deadline = soon(0.7)
    spinning = asyncio.create_task(pool.run(spin, b"{}", RecordingHost(), deadline=deadline))
    count = 0
    while not spinning.done():
        await run(pool, echo)
        count += 1
    assert time.monotonic() - deadline < 5
    with pytest.raises(RunTimedOut):
        await spinning
    assert count > 5
    assert pool.restarts == 0


async def test_a_deadline_covers_host_calls(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask), Gate()
    with pytest.raises(RunTimedOut):
        await pool.run(ask, b"never", RecordingHost(gate), deadline=soon(0.3))
    await eventually(lambda: gate.cancelled == ["never"])


async def test_a_deadline_that_is_over_ends_at_once(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    loop = artifacts("endless_loop")
    pool = await new_pool(loop)
    with pytest.raises(RunTimedOut):
        await pool.run(loop, b"", RecordingHost(), deadline=soon(-1))
    await eventually(lambda: pool.active_runs() == 0)


# --- cancellation


async def test_cancelling_drops_the_guest_and_its_calls(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, max_runs=1), Gate()
    (task,) = parked(pool, ask, gate, "first")
    await gate.has_been_asked(1)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await eventually(lambda: gate.cancelled == ["first"])
    gate.open()
    assert await run(pool, ask, b"second", answer=gate) == b"second", "in the only place there is"


async def test_cancelling_drops_a_guest_that_executes(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    loop, echo = artifacts("endless_loop"), artifacts("tiny_echo")
    pool = await new_pool(loop, echo, max_runs=1)
    task = asyncio.create_task(run(pool, loop))
    await eventually(lambda: pool.active_runs() == 1)
    task.cancel()
    assert await run(pool, echo, b"next") == b"next"
    assert pool.restarts == 0


# --- system calls


async def test_many_runs_get_the_answers_to_their_own_calls(
    new_pool: NewPool, ask: Artifact
) -> None:
    """Also the errors: every third run's call fails, each with a text of its own."""
    pool = await new_pool(ask, engines=2, max_runs=40, queue_length=1000)
    waiting: list[asyncio.Future[None]] = []

    async def answer(_function: str, arguments: Any) -> Any:
        text = arguments[0][0]["text"]
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        if len(waiting) >= 10:  # answers come in another order than the questions
            for other in reversed(waiting):
                other.set_result(None)
            waiting.clear()
        await turn
        if int(text) % 3 == 0:
            raise UpstreamTimeout(f"no answer to {text}")
        return [f"answer to {text}"]

    async def ask_for(number: int) -> str:
        try:
            return (await run(pool, ask, str(number).encode(), answer=answer)).decode()
        except UpstreamTimeout as error:
            return error.detail

    answers = await asyncio.gather(*map(ask_for, range(400)))
    assert answers == [f"{'answer' if i % 3 else 'no answer'} to {i}" for i in range(400)]


async def test_a_kernel_error_ends_the_run_as_it_is(new_pool: NewPool, ask: Artifact) -> None:
    pool = await new_pool(ask)
    error = UpstreamTimeout("too slow", retry_after=3.0, model="m")

    async def fail(_function: str, _arguments: Any) -> Any:
        raise error

    with pytest.raises(UpstreamTimeout) as raised:
        await run(pool, ask, answer=fail)
    assert raised.value is error
    await eventually(lambda: pool.active_runs() == 0)


async def test_an_unexpected_error_does_not_tell_secrets(
    new_pool: NewPool, ask: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    pool = await new_pool(ask)

    def fail(_function: str, _arguments: Any) -> Any:
        raise ZeroDivisionError("the password is 1234")

    with pytest.raises(KernelError) as raised:
        await run(pool, ask, answer=fail)
    assert type(raised.value) is KernelError
    assert raised.value.detail == (
        f"The system call `{guests.SELECT_LANGUAGE}` failed inside the kernel."
    )
    assert "1234" in caplog.text, "the operator may see it"
    assert await run(pool, ask, answer=lambda *_: ["well"]) == b"well"
    assert pool.restarts == 0


@pytest.mark.parametrize(
    "answer", [None, [], ["a", "b"], [None], [1], "text", {"a": 1}, [["ok", "a"]], [b"a"]]
)
async def test_an_answer_of_the_wrong_shape_ends_only_this_run(
    new_pool: NewPool, ask: Artifact, answer: Any
) -> None:
    """Lists of another length, and none, are right by their type: the guest takes what it gets."""
    pool = await new_pool(ask)
    right_by_type = answer in ([], ["a", "b"], [None])
    try:
        await run(pool, ask, answer=lambda *_: answer)
    except SkillBug as error:
        assert not right_by_type or isinstance(error, SkillCrashed)
    else:
        assert right_by_type
    assert await run(pool, ask, answer=lambda *_: ["well"]) == b"well"
    assert pool.restarts == 0


async def test_a_guest_reads_a_stream_to_its_end(new_pool: NewPool, artifacts: Artifacts) -> None:
    reader = artifacts.of(guests.read_stream())
    pool = await new_pool(reader)
    events: list[Any] = [["a", "b", "c"], ["d"], []]
    host = RecordingHost(lambda function, _: events.pop(0) if function == guests.NEXT else None)
    outcome = await pool.run(reader, b"", host, deadline=soon())
    assert outcome == Returned(b"d")
    handle = host.calls[0][1][0]
    assert host.calls[:4] == [(guests.OPEN, [handle, 7]), *[(guests.NEXT, [handle])] * 3], (
        "events that came early are taken without asking again"
    )


async def test_the_kernel_hears_of_streams_that_are_dropped(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    storm = artifacts.of(guests.stream_storm())
    pool = await new_pool(storm)
    host = RecordingHost(lambda *_: None)
    storming = asyncio.create_task(pool.run(storm, b"", host, deadline=soon()))
    await eventually(lambda: len(host.calls) >= 4)
    storming.cancel()
    (_, (first, _)), (_, (second, _)) = host.calls[0], host.calls[2]
    assert first != second
    assert host.calls[:4] == [
        (guests.OPEN, [first, 0]), (guests.DROP, [first]),
        (guests.OPEN, [second, 0]), (guests.DROP, [second]),
    ]  # fmt: skip


async def test_open_streams_are_bounded(new_pool: NewPool, artifacts: Artifacts) -> None:
    few = artifacts.of(guests.open_streams(MAX_OPEN_STREAMS))
    many = artifacts.of(guests.open_streams(MAX_OPEN_STREAMS + 1))
    pool = await new_pool(few, many)
    assert await run(pool, few, b"fine", answer=lambda *_: None) == b"fine"
    with pytest.raises(SkillBug, match=f"more than {MAX_OPEN_STREAMS} streams are open"):
        await run(pool, many, answer=lambda *_: None)


async def test_an_engine_waits_for_a_kernel_that_can_not_keep_up(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    """Else what a guest sends without waiting would pile up in the engine."""
    storm, echo = artifacts.of(guests.stream_storm()), artifacts("tiny_echo")
    pool = await new_pool(storm, echo)
    engine = pool._engines[0]
    assert engine
    assert engine._transport
    process = psutil.Process(engine.pid)
    before = process.memory_info().rss
    began = asyncio.Event()
    host = RecordingHost(lambda *_: began.set())
    storming = asyncio.create_task(pool.run(storm, b"", host, deadline=soon()))
    await began.wait()
    engine._transport.pause_reading()
    idle = 0
    async with asyncio.timeout(20):
        while idle < 20:
            await asyncio.sleep(0.005)
            idle = idle + 1 if process.status() == psutil.STATUS_SLEEPING else 0
    assert process.memory_info().rss - before < 60 * MIB
    engine._transport.resume_reading()
    storming.cancel()
    assert await run(pool, echo, b"next") == b"next"
    assert pool.restarts == 0


# --- the window of a stream


async def test_a_stream_waits_until_its_items_are_consumed(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    stream, echo = artifacts("infinite_stream"), artifacts("tiny_echo")
    pool = await new_pool(stream, echo)
    host = RecordingHost(consume=False)
    writing = asyncio.create_task(pool.run(stream, b"", host, deadline=soon()))
    await eventually(lambda: len(host.items) == WINDOW_ITEMS)
    await pass_turns(pool, echo)
    assert len(host.items) == WINDOW_ITEMS
    host.consumed.pop()()
    await eventually(lambda: len(host.items) == WINDOW_ITEMS + 1)
    await pass_turns(pool, echo)
    assert len(host.items) == WINDOW_ITEMS + 1
    for consumed in host.consumed:
        consumed()
    await eventually(lambda: len(host.items) > WINDOW_ITEMS + 50)
    writing.cancel()


async def test_the_window_counts_bytes_too(new_pool: NewPool, artifacts: Artifacts) -> None:
    size = 60_000
    stream, echo = artifacts.of(guests.wide_stream(size)), artifacts("tiny_echo")
    pool = await new_pool(stream, echo)
    host = RecordingHost(consume=False)
    writing = asyncio.create_task(pool.run(stream, b"", host, deadline=soon()))
    fits = 1 + -(-WINDOW_BYTES // size)
    await eventually(lambda: len(host.items) == fits)
    await pass_turns(pool, echo)
    assert len(host.items) == fits
    for consumed in host.consumed[:2]:  # the first item is a small one
        consumed()
    await eventually(lambda: len(host.items) == fits + 1)
    await pass_turns(pool, echo)
    assert len(host.items) == fits + 1
    writing.cancel()


async def pass_turns(pool: Pool, echo: Artifact) -> None:
    """Enough turns of the engine's loop for any guest that could go on."""
    for _ in range(20):
        await run(pool, echo)


@pytest.mark.parametrize("error", [UpstreamTimeout("the client is gone"), ZeroDivisionError("1/0")])
async def test_an_error_while_emitting_ends_only_this_run(
    new_pool: NewPool, artifacts: Artifacts, error: Exception
) -> None:
    stream, ask = artifacts("infinite_stream"), artifacts.of(guests.ask())
    pool, gate = await new_pool(stream, ask), Gate()
    (other,) = parked(pool, ask, gate, "other")
    await gate.has_been_asked(1)

    class Broken(RecordingHost):
        def emit(self, *_: Any) -> None:
            raise error

    with pytest.raises(KernelError) as raised:
        await pool.run(stream, b"", Broken(), deadline=soon())
    assert type(raised.value) is (type(error) if isinstance(error, KernelError) else KernelError)
    gate.open()
    assert await other == b"other"
    assert pool.restarts == 0


# --- room


async def test_an_engine_holds_so_many_runs(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, max_runs=3), Gate()
    tasks = parked(pool, ask, gate, *"abcde")
    await gate.has_been_asked(3)
    await eventually(lambda: pool.statistics()["queued"] == 2)
    assert pool.active_runs() == 3
    gate.open()
    assert await asyncio.gather(*tasks) == [b"a", b"b", b"c", b"d", b"e"]
    assert pool.active_runs() == 0


async def test_all_places_can_be_taken_at_once_again_and_again(
    new_pool: NewPool, ask: Artifact
) -> None:
    pool = await new_pool(ask, max_runs=100)
    for _ in range(3):
        gate = Gate()
        tasks = parked(pool, ask, gate, *map(str, range(100)))
        await gate.has_been_asked(100)
        gate.open()
        assert len(await asyncio.gather(*tasks)) == 100


async def test_runs_are_spread_over_the_engines(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, engines=2), Gate()
    await eventually(lambda: all(engine["ready"] for engine in pool.statistics()["engines"]))
    tasks = parked(pool, ask, gate, *"abcdef")
    await gate.has_been_asked(6)
    assert [engine["runs"] for engine in pool.statistics()["engines"]] == [3, 3]
    gate.open()
    await asyncio.gather(*tasks)


async def test_the_first_to_come_is_the_first_served(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, max_runs=1), Gate()
    names = [f"run {i}" for i in range(20)]
    tasks = parked(pool, ask, gate, *names)
    await eventually(lambda: pool.statistics()["queued"] == 19)
    gate.open()
    await asyncio.gather(*tasks)
    assert gate.asked == names


async def test_who_comes_later_does_not_overtake(new_pool: NewPool, ask: Artifact) -> None:
    """A place becomes free; before the one who waits for it has got a turn, another comes."""
    pool, gate = await new_pool(ask, max_runs=1), Gate()
    late: list[asyncio.Task[bytes]] = []
    first, waiting = parked(pool, ask, gate, "first", "waiting")
    await gate.has_been_asked(1)
    first.add_done_callback(lambda _: late.extend(parked(pool, ask, gate, "late")))
    gate.open()
    await asyncio.gather(first, waiting)
    await late[0]
    assert gate.asked == ["first", "waiting", "late"]


async def test_a_full_queue_refuses_early(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, max_runs=1, queue_length=2), Gate()
    tasks = parked(pool, ask, gate, *"abc")
    await eventually(lambda: pool.statistics()["queued"] == 2)
    with pytest.raises(Overloaded, match="`run-queue-length`") as raised:
        await run(pool, ask)
    assert raised.value.retry_after == 1.0
    gate.open()
    await asyncio.gather(*tasks)
    assert await run(pool, ask, b"later", answer=gate) == b"later"


async def test_a_deadline_holds_in_the_queue(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, max_runs=1), Gate()
    (first,) = parked(pool, ask, gate, "first")
    await gate.has_been_asked(1)
    with pytest.raises(RunTimedOut, match="no room"):
        await pool.run(ask, b"second", RecordingHost(gate), deadline=soon(0.1))
    assert pool.statistics()["queued"] == 0
    gate.open()
    assert await first == b"first"
    assert gate.asked == ["first"]


async def test_who_leaves_the_queue_does_not_hold_up_the_others(
    new_pool: NewPool, ask: Artifact
) -> None:
    pool, gate = await new_pool(ask, max_runs=1), Gate()
    tasks = parked(pool, ask, gate, *"abcd")
    await eventually(lambda: pool.statistics()["queued"] == 3)
    tasks[1].cancel()
    tasks[2].cancel()
    gate.open()
    assert await tasks[3] == b"d"
    assert gate.asked == ["a", "d"]


async def test_a_place_that_comes_too_late_is_given_back(new_pool: NewPool, ask: Artifact) -> None:
    """The run is cancelled in the very turn in which it got its place."""
    pool, gate = await new_pool(ask, max_runs=1), Gate()
    first, second, third = parked(pool, ask, gate, "first", "second", "third")
    await eventually(lambda: pool.statistics()["queued"] == 2)
    begin = pool._queue[0].begin

    def begin_and_cancel(engine: Any) -> Any:
        second.cancel()
        return begin(engine)

    pool._queue[0].begin = begin_and_cancel  # type: ignore[method-assign]
    gate.open()
    assert await first == b"first"
    await asyncio.wait({second})
    assert second.cancelled()
    assert await third == b"third"


# --- engines that die


async def test_only_the_runs_of_a_killed_engine_are_lost(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, engines=2), Gate()
    await eventually(lambda: all(engine["ready"] for engine in pool.statistics()["engines"]))
    names = list("abcdef")
    tasks = parked(pool, ask, gate, *names)
    await gate.has_been_asked(6)
    victim, survivor = pids(pool)
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: sum(task.done() for task in tasks) == 3)
    gate.open()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    lost = [name for name, o in zip(names, outcomes, strict=True) if isinstance(o, EngineLost)]
    kept = [o.decode() for o in outcomes if isinstance(o, bytes)]
    assert len(lost) == 3
    assert sorted(lost + kept) == names
    assert sorted(gate.cancelled) == sorted(lost)
    await eventually(lambda: all(engine["ready"] for engine in pool.statistics()["engines"]))
    assert pool.restarts == 1
    assert pids(pool)[1] == survivor
    assert pids(pool)[0] != victim
    assert pool.quarantine.listing() == {}, "whoever kills an engine from outside blames nobody"


async def test_a_restarted_engine_has_its_components(
    new_pool: NewPool, artifacts: Artifacts, ask: Artifact
) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo, ask)
    os.kill(pids(pool)[0], signal.SIGKILL)
    await eventually(lambda: pool.restarts == 1)
    assert await run(pool, echo, b"one") == b"one"
    assert await run(pool, ask, answer=lambda *_: ["two"]) == b"two"


async def test_runs_wait_for_an_engine_that_restarts(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo, max_runs=2)
    os.kill(pids(pool)[0], signal.SIGKILL)
    await eventually(lambda: not pool.statistics()["ready"])
    texts = [b"a", b"b", b"c", b"d", b"e"]
    assert await asyncio.gather(*(run(pool, echo, text) for text in texts)) == texts


async def test_loading_while_the_engine_restarts(new_pool: NewPool, artifacts: Artifacts) -> None:
    echo, stream = artifacts("tiny_echo"), artifacts("tiny_stream")
    pool = await new_pool(echo)
    os.kill(pids(pool)[0], signal.SIGKILL)
    await eventually(lambda: not pool.statistics()["ready"])
    await pool.load(stream)
    assert await run(pool, stream) == b""
    assert await run(pool, echo, b"text") == b"text"


async def stop(pid: int) -> None:
    process = psutil.Process(pid)
    process.send_signal(signal.SIGSTOP)
    await eventually(lambda: process.status() == psutil.STATUS_STOPPED)


async def crash_while_executing(pool: Pool, artifact: Artifact) -> None:
    """The engine dies of a signal just when it executes the guest."""
    host = RecordingHost(lambda *_: ["x"])
    task = asyncio.create_task(pool.run(artifact, b"", host, deadline=soon()))
    await eventually(lambda: host.calls)
    (engine,) = [engine for engine in pool._engines if engine and engine.runs]
    process = psutil.Process(engine.pid)

    def stopped_in_guest() -> bool:
        process.send_signal(signal.SIGSTOP)
        if process.status() == psutil.STATUS_STOPPED and any(engine._blame[:8]):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    await eventually(stopped_in_guest)
    # wasmtime lets a SIGSEGV pass that comes from outside while a guest executes, and dies only of
    # the next; what Rust and C do when something is wrong is to abort.
    process.send_signal(signal.SIGABRT)
    process.send_signal(signal.SIGCONT)
    with pytest.raises(EngineLost):
        await task


async def test_who_crashes_engines_is_quarantined(new_pool: NewPool, artifacts: Artifacts) -> None:
    culprit, echo = artifacts.of(guests.ask_then_loop()), artifacts("tiny_echo")
    pool = await new_pool(culprit, echo, quarantine_after=3)
    for count in range(1, 4):
        assert pool.quarantine.listing() == {}
        await crash_while_executing(pool, culprit)
        await eventually(lambda: pool.restarts == count)  # noqa: B023
    with pytest.raises(SkillQuarantined, match="crashed 3 engine processes") as raised:
        await run(pool, culprit)
    assert raised.value.retry_after is not None
    assert 50 < raised.value.retry_after <= 60
    assert list(pool.statistics()["quarantined"]) == [culprit.digest]
    assert await run(pool, echo, b"innocent") == b"innocent"


async def test_the_quarantine_reaches_those_in_the_queue(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    culprit = artifacts.of(guests.ask_then_loop())
    pool = await new_pool(culprit, quarantine_after=1, max_runs=1)
    crash = asyncio.create_task(crash_while_executing(pool, culprit))
    await eventually(lambda: pool.active_runs() == 1)
    queued = asyncio.create_task(run(pool, culprit))
    await crash
    with pytest.raises(SkillQuarantined):
        await queued


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("pharia_kernel.engine.pool.time.monotonic", clock)
    return clock


def blame(quarantine: Quarantine, clock: Clock, *times: float) -> None:
    for clock.now in times:
        quarantine.blame("culprit")


def test_a_quarantine_begins_and_ends(clock: Clock) -> None:
    quarantine = Quarantine(after=3, window=60)
    blame(quarantine, clock, 1000, 1010)
    quarantine.check("culprit")
    blame(quarantine, clock, 1020)
    assert quarantine.listing() == {"culprit": 60}
    quarantine.check("innocent")
    clock.now = 1079
    with pytest.raises(SkillQuarantined) as raised:
        quarantine.check("culprit")
    assert raised.value.retry_after == 1
    clock.now = 1080
    quarantine.check("culprit")
    assert quarantine.listing() == {}


def test_only_crashes_within_the_window_count(clock: Clock) -> None:
    quarantine = Quarantine(after=3, window=60)
    blame(quarantine, clock, 0, 40, 80, 120)
    quarantine.check("culprit")
    blame(quarantine, clock, 130)
    assert quarantine.remaining("culprit") == 60, "three in 50 s"


async def test_an_engine_that_does_not_let_go_is_killed(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, cancel_grace=0.2), Gate()
    stopped, other = parked(pool, ask, gate, "stopped", "other")
    await gate.has_been_asked(2)
    (pid,) = pids(pool)
    await stop(pid)
    stopped.cancel()
    with pytest.raises(EngineLost):
        await other
    await eventually(lambda: pids(pool) != [pid])
    assert not psutil.pid_exists(pid)
    gate.open()
    assert await run(pool, ask, b"again", answer=gate) == b"again"


async def test_an_engine_that_breaks_the_protocol_is_killed(
    new_pool: NewPool, ask: Artifact
) -> None:
    pool, gate = await new_pool(ask), Gate()
    (task,) = parked(pool, ask, gate, "first")
    await gate.has_been_asked(1)
    engine = pool._engines[0]
    assert engine
    engine.data_received(b"\x01\0\0\0\xc1")
    with pytest.raises(EngineLost):
        await task
    gate.open()
    assert await run(pool, ask, b"again", answer=gate) == b"again"


# --- components


async def test_unloading_lets_runs_finish(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask), Gate()
    (task,) = parked(pool, ask, gate, "in flight")
    await gate.has_been_asked(1)
    await pool.unload(ask.digest)
    with pytest.raises(SkillNotReady):
        await run(pool, ask)
    gate.open()
    assert await task == b"in flight"
    await pool.load(ask)
    assert await run(pool, ask, b"again", answer=gate) == b"again"


async def test_loading_and_unloading_are_idempotent(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo, echo)
    await asyncio.gather(*(pool.load(echo) for _ in range(5)))
    assert await run(pool, echo, b"text") == b"text"
    await pool.unload(echo.digest)
    await pool.unload(echo.digest)
    assert pool.statistics()["components"] == 0


async def test_unloading_while_loading_leaves_nobody_waiting(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool()
    loading = asyncio.create_task(pool.load(echo))
    await asyncio.sleep(0)
    await pool.unload(echo.digest)
    async with asyncio.timeout(10):
        await loading


@pytest.mark.parametrize("content", [b"", b"no machine code", None], ids=["empty", "text", "cut"])
async def test_an_artifact_that_is_damaged_can_not_be_loaded(
    new_pool: NewPool, artifacts: Artifacts, tmp_path: Path, content: bytes | None
) -> None:
    echo = artifacts("tiny_echo")
    path = tmp_path / "damaged.cwasm"
    path.write_bytes(echo.path.read_bytes()[:5000] if content is None else content)
    damaged = msgspec.structs.replace(echo, digest="sha256:0", path=path)
    pool = await new_pool(echo)
    with pytest.raises(CompileFailed, match="can't be loaded"):
        await pool.load(damaged)
    with pytest.raises(SkillNotReady):
        await run(pool, damaged)
    path.unlink()
    with pytest.raises(CompileFailed, match="can't be loaded"):
        await pool.load(damaged)
    assert await run(pool, echo, b"healthy") == b"healthy"
    assert pool.restarts == 0


async def test_an_artifact_that_is_gone_when_the_engine_restarts_harms_nobody_else(
    new_pool: NewPool, artifacts: Artifacts, tmp_path: Path
) -> None:
    echo, stream = artifacts("tiny_echo"), artifacts("tiny_stream")
    path = tmp_path / "copy.cwasm"
    path.write_bytes(stream.path.read_bytes())
    pool = await new_pool(echo, msgspec.structs.replace(stream, path=path))
    path.unlink()
    os.kill(pids(pool)[0], signal.SIGKILL)
    await eventually(lambda: pool.restarts == 1)
    assert await run(pool, echo, b"healthy") == b"healthy"
    with pytest.raises(CompileFailed, match="can't be loaded"):
        await run(pool, stream)


# --- the end


async def test_closing_ends_engines_and_fails_runs(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, engines=2, max_runs=2), Gate()
    await eventually(lambda: all(engine["ready"] for engine in pool.statistics()["engines"]))
    tasks = parked(pool, ask, gate, *"abcdef")
    await gate.has_been_asked(4)
    processes = [psutil.Process(pid) for pid in pids(pool)]
    await pool.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ShuttingDown] * 6
    assert not any(process.is_running() for process in processes)
    with pytest.raises(ShuttingDown):
        await run(pool, ask)


async def test_closing_does_not_wait_for_an_engine_that_is_stuck(new_pool: NewPool) -> None:
    pool = await new_pool()
    (pid,) = pids(pool)
    await stop(pid)
    async with asyncio.timeout(10):
        await pool.close()
    assert not psutil.pid_exists(pid)


async def test_closing_while_engines_start_leaves_no_process() -> None:
    before = {child.pid for child in psutil.Process().children()}
    for turns in (0, 2, 6, 20):
        pool = Pool(pool_settings(engines=2))
        starting = asyncio.create_task(pool.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        async with asyncio.timeout(20):
            await pool.close()
    await eventually(lambda: {child.pid for child in psutil.Process().children()} <= before)


async def test_engines_die_with_the_kernel(new_pool: NewPool) -> None:
    """Here: when the connection is closed, as it is when the kernel's process ends."""
    pool = await new_pool()
    engine = pool._engines[0]
    assert engine
    assert engine._transport
    process = psutil.Process(engine.pid)
    engine._transport.close()
    await eventually(lambda: not process.is_running())


async def test_statistics_tell_the_state(new_pool: NewPool, ask: Artifact) -> None:
    pool, gate = await new_pool(ask, max_runs=1), Gate()
    tasks = parked(pool, ask, gate, "a", "b")
    await gate.has_been_asked(1)
    (pid,) = pids(pool)
    assert pool.statistics() == {
        "ready": True,
        "engines": [{"pid": pid, "ready": True, "runs": 1}],
        "queued": 1,
        "queue_capacity": 100,
        "restarts": 0,
        "components": 1,
        "quarantined": {},
    }
    gate.open()
    await asyncio.gather(*tasks)
