from __future__ import annotations

import asyncio

import pytest

from pharia_kernel.drivers.inference.limiter import FairLimiter
from pharia_kernel.errors import UpstreamOverloaded


class Queue:
    """Waiters of a limiter, and the order in which they got their places."""

    def __init__(self, limiter: FairLimiter) -> None:
        self.limiter = limiter
        self.served: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def join(self, *tenants: str) -> None:
        for tenant in tenants:
            self.tasks.append(asyncio.create_task(self._wait(tenant)))
            await asyncio.sleep(0)

    async def _wait(self, tenant: str) -> None:
        await self.limiter.acquire(tenant)
        self.served.append(tenant)

    async def release(self, times: int) -> None:
        for _ in range(times):
            self.limiter.release()
            await asyncio.sleep(0)


async def test_there_are_only_so_many_places() -> None:
    queue = Queue(FairLimiter(2, max_waiting=10))
    await queue.join("a", "a", "a")
    assert queue.served == ["a", "a"]
    assert queue.limiter.waiting == 1
    await queue.release(1)
    assert queue.served == ["a", "a", "a"]
    assert queue.limiter.waiting == 0


async def test_a_tenant_with_few_requests_does_not_wait_for_one_with_many() -> None:
    queue = Queue(FairLimiter(1, max_waiting=10))
    await queue.join("first", "many", "many", "many", "few", "many", "few")
    await queue.release(6)
    assert queue.served == ["first", "many", "few", "many", "few", "many", "many"]


async def test_too_long_a_queue_is_refused() -> None:
    queue = Queue(FairLimiter(1, max_waiting=1))
    await queue.join("a", "a")
    with pytest.raises(UpstreamOverloaded) as refused:
        await queue.limiter.acquire("b")
    assert refused.value.retry_after


async def test_a_waiter_that_gives_up_leaves_the_queue() -> None:
    queue = Queue(FairLimiter(1, max_waiting=10))
    await queue.join("first", "gone", "a", "b")
    queue.tasks[1].cancel()
    await asyncio.sleep(0)
    assert queue.limiter.waiting == 2
    await queue.release(2)
    assert queue.served == ["first", "a", "b"]


async def test_a_place_handed_to_a_waiter_that_is_cancelled_at_once_is_not_lost() -> None:
    queue = Queue(FairLimiter(1, max_waiting=10))
    await queue.join("first", "gone", "next")
    queue.limiter.release()
    queue.tasks[1].cancel()
    await asyncio.wait(queue.tasks)
    assert queue.served == ["first", "next"]


async def test_a_waiter_that_was_cancelled_before_the_release_is_passed_over() -> None:
    queue = Queue(FairLimiter(1, max_waiting=10))
    await queue.join("first", "gone", "next")
    queue.tasks[1].cancel()
    queue.limiter.release()
    await asyncio.wait(queue.tasks)
    assert queue.served == ["first", "next"]
    queue.limiter.release()
    await asyncio.wait_for(queue.limiter.acquire("later"), 1)


def test_a_limiter_needs_a_place() -> None:
    with pytest.raises(ValueError, match="0"):
        FairLimiter(0, max_waiting=1)
