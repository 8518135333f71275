from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pharia_kernel.drivers.tokenizers.cache import SingleFlightCache
from pharia_kernel.errors import UpstreamTimeout


class Loader:
    """Loads what it is told to, once it is let go."""

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self.go = asyncio.Event()
        self.go.set()
        self.fail: Exception | None = None
        self.cancelled: list[str] = []

    async def load(self, key: str) -> str:
        self.loads[key] += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        if self.fail:
            raise self.fail
        return key.upper()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Subject:
    def __init__(self, capacity: int = 2, failure_capacity: int = 2) -> None:
        self.loader, self.clock = Loader(), Clock()
        self.cache: SingleFlightCache[str, str] = SingleFlightCache(
            capacity=capacity,
            ttl=100.0,
            failure_ttl=10.0,
            failure_capacity=failure_capacity,
            clock=self.clock,
        )

    async def get(self, key: str) -> str:
        return await self.cache.get(key, lambda: self.loader.load(key))


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_of_one_key_share_a_load_and_other_keys_do_not_wait() -> None:
    subject = Subject()
    subject.loader.go.clear()
    callers = [asyncio.create_task(subject.get(key)) for key in "aaab"]
    await _settle()
    assert subject.loader.loads == {"a": 1, "b": 1}
    subject.loader.go.set()
    assert await asyncio.gather(*callers) == ["A", "A", "A", "B"]
    assert await subject.get("a") == "A"
    assert subject.loader.loads == {"a": 1, "b": 1}


async def test_the_least_recently_used_value_goes_first() -> None:
    subject = Subject(capacity=2)
    for key in "abaca":
        await subject.get(key)
    assert subject.loader.loads == {"a": 1, "b": 1, "c": 1}
    await subject.get("b")
    assert subject.loader.loads["b"] == 2


async def test_values_and_failures_are_kept_for_their_time() -> None:
    subject = Subject()
    await subject.get("good")
    subject.loader.fail = UpstreamTimeout("slow")
    with pytest.raises(UpstreamTimeout):
        await subject.get("bad")
    subject.loader.fail = None
    subject.clock.now = 9.9
    with pytest.raises(UpstreamTimeout, match="slow"):
        await subject.get("bad")
    assert subject.loader.loads == {"good": 1, "bad": 1}
    subject.clock.now = 10.0
    assert await subject.get("bad") == "BAD"
    subject.clock.now = 99.9
    assert await subject.get("good") == "GOOD"
    subject.clock.now = 100.0
    await subject.get("good")
    assert subject.loader.loads == {"good": 2, "bad": 2}


async def test_failures_do_not_push_out_values_and_are_bounded_too() -> None:
    subject = Subject(capacity=1, failure_capacity=2)
    await subject.get("good")
    subject.loader.fail = UpstreamTimeout("slow")
    for key in ("x", "y", "z", "x"):
        with pytest.raises(UpstreamTimeout):
            await subject.get(key)
    assert await subject.get("good") == "GOOD"
    assert subject.loader.loads == {"good": 1, "x": 2, "y": 1, "z": 1}


async def test_a_defect_is_not_remembered() -> None:
    subject = Subject()
    subject.loader.fail = ZeroDivisionError("defect")
    with pytest.raises(ZeroDivisionError):
        await subject.get("a")
    subject.loader.fail = None
    assert await subject.get("a") == "A"


async def test_a_caller_that_leaves_does_not_disturb_the_others() -> None:
    subject = Subject()
    subject.loader.go.clear()
    first, second = (asyncio.create_task(subject.get("a")) for _ in range(2))
    await _settle()
    first.cancel()
    await _settle()
    assert first.cancelled() and not subject.loader.cancelled
    subject.loader.go.set()
    assert await second == "A"


async def test_the_load_ends_with_its_last_caller_and_the_next_one_starts_anew() -> None:
    subject = Subject()
    subject.loader.go.clear()
    callers = [asyncio.create_task(subject.get("a")) for _ in range(2)]
    await _settle()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    next_one = asyncio.create_task(subject.get("a"))
    await _settle()
    assert subject.loader.cancelled == ["a"]
    subject.loader.go.set()
    assert await next_one == "A"
    assert subject.loader.loads == {"a": 2}
