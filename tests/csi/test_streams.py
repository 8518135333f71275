from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharia_kernel.csi.streams import CAPACITY, ReadAhead
from pharia_kernel.errors import KernelError, UpstreamUnavailable

FAILED = UpstreamUnavailable("gone")


class Source:
    """A generator whose pace the test sets, and which tells what becomes of it."""

    def __init__(self, items: Iterable[int | Exception | None] = ()) -> None:
        self.items: asyncio.Queue[int | Exception | None] = asyncio.Queue()
        self.read = 0
        self.closed = asyncio.Event()
        self.send(*items)

    def send(self, *items: int | Exception | None) -> None:
        """None is the end."""
        for item in items:
            self.items.put_nowait(item)

    async def events(self) -> AsyncGenerator[int, None]:
        try:
            while (item := await self.items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                self.read += 1
                yield item
        finally:
            self.closed.set()


async def turns() -> None:
    """Let every task that can run do so, several times."""
    for _ in range(5):
        await asyncio.sleep(0)


async def all_of(stream: ReadAhead[int]) -> list[int]:
    events: list[int] = []
    async with asyncio.timeout(10):
        while new := await stream.take():
            events += new
    return events


async def test_what_has_arrived_is_taken_in_one_step() -> None:
    source = Source([1, 2, 3])
    stream = ReadAhead(source.events())
    await turns()
    assert await stream.take() == [1, 2, 3]


async def test_take_waits_for_the_first_event_only() -> None:
    source = Source()
    stream = ReadAhead(source.events())
    waiting = asyncio.create_task(stream.take())
    await turns()
    assert not waiting.done()
    source.send(1)
    assert await asyncio.wait_for(waiting, 10) == [1]


async def test_the_end_is_told_again_and_again() -> None:
    stream = ReadAhead(Source([1, None]).events())
    assert await stream.take() == [1]
    assert [await stream.take(), await stream.take()] == [[], []]


async def test_error_comes_after_what_was_read_before_it() -> None:
    stream = ReadAhead(Source([1, 2, FAILED]).events())
    await turns()
    assert await stream.take() == [1, 2]
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable) as caught:
            await stream.take()
        assert caught.value is FAILED


async def test_error_wakes_who_waits() -> None:
    source = Source()
    stream = ReadAhead(source.events())
    waiting = asyncio.create_task(stream.take())
    await turns()
    source.send(FAILED)
    with pytest.raises(UpstreamUnavailable):
        await asyncio.wait_for(waiting, 10)


async def test_reading_pauses_when_the_buffer_is_full() -> None:
    source = Source([*range(2 * CAPACITY + 1)])
    stream = ReadAhead(source.events())
    await turns()
    assert source.read == CAPACITY
    assert await stream.take() == [*range(CAPACITY)]
    await turns()
    assert source.read == 2 * CAPACITY
    source.send(None)
    assert await all_of(stream) == [*range(CAPACITY, 2 * CAPACITY + 1)]


@given(
    sizes=st.lists(st.integers(0, CAPACITY + 10), max_size=6),
    takes=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_order_is_kept_however_it_comes_and_is_taken(sizes: list[int], takes: list[bool]) -> None:
    async def scenario() -> None:
        source = Source()
        stream = ReadAhead(source.events())
        sent = 0
        taken: list[int] = []
        for size, take in zip(sizes, takes, strict=False):
            source.send(*range(sent, sent + size))
            sent += size
            await turns()
            if take and len(taken) < sent:
                taken += await stream.take()
        source.send(None)
        taken += await all_of(stream)
        assert taken == [*range(sent)]

    asyncio.run(scenario())


async def test_close_ends_the_source_and_who_waits() -> None:
    source = Source()
    stream = ReadAhead(source.events())
    waiting = asyncio.create_task(stream.take())
    await turns()
    await stream.close()
    assert source.closed.is_set()
    assert await asyncio.wait_for(waiting, 10) == []


async def test_close_ends_a_source_that_waits_for_room() -> None:
    source = Source([*range(CAPACITY + 1)])
    stream = ReadAhead(source.events())
    await turns()
    await stream.close()
    assert source.closed.is_set()
    assert source.read == CAPACITY


async def test_closing_before_anything_was_read() -> None:
    source = Source([1])
    stream = ReadAhead(source.events())
    await stream.close()
    assert source.read == 0
    assert await asyncio.wait_for(stream.take(), 10) == []


async def test_closing_twice_and_at_once() -> None:
    release = asyncio.Event()
    closed = 0

    async def slow_to_close() -> AsyncGenerator[int, None]:
        nonlocal closed
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await release.wait()
            closed += 1

    stream = ReadAhead(slow_to_close())
    assert await stream.take() == [1]
    await turns()
    closing = [asyncio.create_task(stream.close()) for _ in range(2)]
    await turns()
    assert [task.done() for task in closing] == [False, False]
    release.set()
    await asyncio.wait_for(asyncio.gather(*closing), 10)
    await stream.close()
    assert closed == 1


async def test_closing_goes_on_when_its_caller_is_cancelled() -> None:
    release, closed = asyncio.Event(), asyncio.Event()

    async def slow_to_close() -> AsyncGenerator[int, None]:
        try:
            for number in range(CAPACITY + 1):
                yield number
        finally:
            await release.wait()
            closed.set()

    stream = ReadAhead(slow_to_close())
    await turns()  # the source is where it yields, because the buffer is full
    closing = asyncio.create_task(stream.close())
    await turns()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    release.set()
    await asyncio.wait_for(closed.wait(), 10)


async def test_closing_never_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def bad_to_close() -> AsyncGenerator[int, None]:
        try:
            for number in range(CAPACITY + 1):
                yield number
        finally:
            raise FAILED

    stream = ReadAhead(bad_to_close())
    await turns()
    with caplog.at_level(logging.ERROR):
        await stream.close()
    assert "could not be closed" in caplog.text
    assert "gone" in caplog.text


async def test_a_cut_behind_the_source_is_not_the_end() -> None:
    behind = asyncio.create_task(asyncio.Event().wait())

    async def events() -> AsyncGenerator[int, None]:
        yield 1
        await behind

    stream = ReadAhead(events())
    assert await stream.take() == [1]
    behind.cancel()
    with pytest.raises(KernelError, match="cut off"):
        await asyncio.wait_for(stream.take(), 10)
