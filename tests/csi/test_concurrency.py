from __future__ import annotations

import asyncio

import pytest

from pharia_kernel.csi.concurrency import all_of


async def test_nothing_to_do() -> None:
    assert await all_of([]) == []


@pytest.mark.parametrize("count", [1, 2, 10_000])
async def test_all_are_under_way_before_one_is_done(count: int) -> None:
    barrier = asyncio.Barrier(count)

    async def call(number: int) -> int:
        await barrier.wait()
        return number

    async with asyncio.timeout(60):
        assert await all_of([call(n) for n in range(count)]) == [*range(count)]


async def test_order_is_that_of_the_calls() -> None:
    done = [asyncio.Event() for _ in range(4)]
    done[3].set()

    async def call(number: int) -> int:
        await done[number].wait()
        if number:
            done[number - 1].set()
        return number

    async with asyncio.timeout(10):
        assert await all_of([call(n) for n in range(4)]) == [0, 1, 2, 3]


async def test_first_error_cancels_the_others_and_waits_for_them() -> None:
    cancelled: list[int] = []
    started = asyncio.Barrier(3)

    async def hang(number: int) -> None:
        try:
            await started.wait()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up takes a while
            cancelled.append(number)
            raise

    async def fail() -> None:
        await started.wait()
        raise LookupError("first")

    async with asyncio.timeout(10):
        with pytest.raises(LookupError, match="first"):
            await all_of([hang(0), fail(), hang(1)])
    assert sorted(cancelled) == [0, 1]


async def test_first_error_wins_over_what_follows_from_it() -> None:
    started = asyncio.Barrier(2)

    async def fail_when_cancelled() -> None:
        try:
            await started.wait()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError("second") from None

    async def fail() -> None:
        await started.wait()
        raise LookupError("first")

    async with asyncio.timeout(10):
        with pytest.raises(LookupError, match="first"):
            await all_of([fail_when_cancelled(), fail()])


@pytest.mark.parametrize("count", [1, 3])
async def test_cancelling_the_batch_cancels_all(count: int) -> None:
    started = asyncio.Barrier(count + 1)
    cancelled = 0

    async def hang() -> None:
        nonlocal cancelled
        try:
            await started.wait()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    calls = [hang() for _ in range(count)]
    batch = asyncio.create_task(all_of(calls))
    async with asyncio.timeout(10):
        await started.wait()
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
    assert cancelled == count
