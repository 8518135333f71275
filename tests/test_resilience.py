from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pharia_kernel.errors import UpstreamOverloaded, UpstreamTimeout
from pharia_kernel.resilience import (
    AttemptFailed,
    Deadline,
    Resilience,
    RetryBudget,
    RetryPolicy,
    parse_retry_after,
)


class Attempts:
    """Fails so many times, then succeeds; pauses are noted instead of waited for."""

    def __init__(self, failures: int, *, retry: bool = True, asked: float | None = None) -> None:
        self.failures = failures
        self.retry = retry
        self.asked = asked
        self.made = 0
        self.pauses: list[float] = []

    async def __call__(self) -> str:
        self.made += 1
        if self.made > self.failures:
            return "answer"
        raise AttemptFailed(
            UpstreamOverloaded(f"failure {self.made}", retry_after=self.asked), retry=self.retry
        )

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(
        self,
        policy: RetryPolicy | None = None,
        budget: RetryBudget | None = None,
        seconds: float = 60,
    ) -> str:
        resilience = Resilience(policy, budget, self.sleep)
        return await resilience.call(self, Deadline(seconds))


async def test_failures_are_retried_with_growing_jittered_pauses() -> None:
    attempts = Attempts(3)
    assert await attempts.run(RetryPolicy(attempts=4, base=1.0)) == "answer"
    assert attempts.made == 4
    assert all(
        0 <= pause <= longest for pause, longest in zip(attempts.pauses, [1, 2, 4], strict=True)
    )


async def test_the_last_error_is_raised_when_the_attempts_are_used_up() -> None:
    attempts = Attempts(10)
    with pytest.raises(UpstreamOverloaded, match="failure 3"):
        await attempts.run(RetryPolicy(attempts=3))
    assert attempts.made == 3


async def test_some_failures_are_not_retried() -> None:
    attempts = Attempts(1, retry=False)
    with pytest.raises(UpstreamOverloaded):
        await attempts.run()
    assert attempts.made == 1


async def test_a_pause_that_the_backend_asks_for_is_kept() -> None:
    attempts = Attempts(1, asked=7.0)
    await attempts.run(RetryPolicy(base=0.5))
    assert 7.0 <= attempts.pauses[0] <= 7.5


@pytest.mark.parametrize(("asked", "seconds"), [(1000.0, 5000.0), (15.0, 10.0)])
async def test_no_attempt_is_made_after_too_long_a_pause(asked: float, seconds: float) -> None:
    attempts = Attempts(1, asked=asked)
    with pytest.raises(UpstreamOverloaded) as failed:
        await attempts.run(seconds=seconds)
    assert failed.value.retry_after == asked
    assert (attempts.made, attempts.pauses) == (1, [])


async def test_retries_stop_when_the_budget_is_used_up() -> None:
    budget = RetryBudget(ratio=0.2, floor=2.0, floor_per_second=0.0)
    made = 0
    for _ in range(20):
        attempts = Attempts(100)
        with pytest.raises(UpstreamOverloaded):
            await attempts.run(RetryPolicy(attempts=10, base=0.0), budget)
        made += attempts.made
    assert made == 20 + 2 + 20 * 0.2


def test_the_floor_of_the_budget_comes_back_with_time() -> None:
    now = 0.0
    budget = RetryBudget(ratio=0.0, floor=2.0, floor_per_second=0.5, clock=lambda: now)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    now += 2.0
    assert [budget.spend() for _ in range(2)] == [True, False]
    now += 1000.0
    assert [budget.spend() for _ in range(3)] == [True, True, False]


async def test_the_deadline_ends_a_hanging_attempt() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(UpstreamTimeout, match=r"0\.02 s"):
        await Resilience().call(hang, Deadline(0.02))


async def test_nothing_is_tried_after_the_deadline() -> None:
    attempts = Attempts(0)
    with pytest.raises(UpstreamTimeout):
        await attempts.run(seconds=0)
    assert attempts.made == 0


def test_the_earlier_limit_counts() -> None:
    assert Deadline.earliest(10.0, None).remaining() == pytest.approx(10, abs=0.5)
    assert Deadline.earliest(10.0, 5.0).remaining() == pytest.approx(5, abs=0.5)
    assert Deadline.earliest(10.0, 20.0).remaining() == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("5", 5.0), (" 0 ", 0.0), ("-5", None), ("soon", None), ("", None), ("²", None)],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    future = datetime.now(UTC) + timedelta(seconds=30)
    assert parse_retry_after(format_datetime(future, usegmt=True)) == pytest.approx(30, abs=2)
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
