"""How long calls of other services may take, and when they are tried again: one policy."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from msgspec import Struct

from pharia_kernel.errors import CsiError, UpstreamTimeout

log = logging.getLogger("pharia_kernel.inference")

T = TypeVar("T")


class AttemptFailed(Exception):
    """One attempt failed with ``error``; ``retry`` says whether another one may do better.

    ``error.retry_after`` holds the pause that the backend asked for, if any.
    """

    def __init__(self, error: CsiError, *, retry: bool) -> None:
        super().__init__(error.detail)
        self.error = error
        self.retry = retry


class Deadline:
    """The point in time at which one call with all its attempts and pauses ends."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = time.monotonic() + seconds

    @classmethod
    def earliest(cls, limit: float, remaining: float | None) -> Deadline:
        """Of the driver's own limit and what is left to the caller, both in seconds."""
        return cls(limit if remaining is None else min(limit, remaining))

    def remaining(self) -> float:
        return self._at - time.monotonic()

    def timer(self) -> asyncio.Timeout:
        """Ends the block with ``TimeoutError`` at the deadline.

        Raises ``UpstreamTimeout`` if it is over already.
        """
        remaining = self.remaining()
        if remaining <= 0:
            raise self.error()
        return asyncio.timeout(remaining)

    def error(self) -> UpstreamTimeout:
        return UpstreamTimeout(
            f"The inference backend did not answer within the {self._seconds:.3g} s "
            "that were left for the call."
        )


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter; all times in seconds."""

    attempts: int = 4
    """Including the first."""
    base: float = 0.5
    """Upper bound of the first pause; it doubles with each further one."""
    longest: float = 20.0
    """Upper bound of all pauses. A backend that asks for a longer one is not tried again."""

    def pause(self, failed: int, asked: float | None) -> float | None:
        """Seconds until the next attempt after ``failed`` ones; none if there is to be none.

        A pause that the backend asked for is kept, with up to ``base`` on top, lest all callers
        come back at once.
        """
        if failed >= self.attempts or (asked is not None and asked > self.longest):
            return None
        if asked is not None:
            return asked + random.uniform(0.0, self.base)  # noqa: S311
        return random.uniform(0.0, min(self.longest, self.base * 2.0 ** (failed - 1)))  # noqa: S311


class RetryBudget:
    """Keeps retries from multiplying the load of a backend that is already in trouble.

    Each call earns ``ratio`` of a retry, up to ``capacity``. At least ``floor`` retries are
    available after a quiet time: they come back at ``floor_per_second``.
    """

    def __init__(
        self,
        *,
        ratio: float = 0.2,
        capacity: float = 100.0,
        floor: float = 10.0,
        floor_per_second: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ratio = ratio
        self._capacity = capacity
        self._floor = floor
        self._floor_per_second = floor_per_second
        self._clock = clock
        self._balance = floor
        self._refilled = clock()

    def earn(self) -> None:
        self._balance = min(self._capacity, self._balance + self._ratio)

    def spend(self) -> bool:
        """Take one retry; false if none is left."""
        self._refill()
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True

    def _refill(self) -> None:
        now = self._clock()
        earned = (now - self._refilled) * self._floor_per_second
        self._refilled = now
        if self._balance < self._floor:
            self._balance = min(self._floor, self._balance + earned)


class Resilience:
    """The policy and the budget of one backend."""

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        budget: RetryBudget | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy or RetryPolicy()
        self._budget = budget or RetryBudget()
        self._sleep = sleep

    async def call(self, attempt: Callable[[], Awaitable[T]], deadline: Deadline) -> T:
        """Result of the first attempt that succeeds; otherwise raises the last one's ``CsiError``.

        No pause is begun that would not end before the deadline.
        """
        self._budget.earn()
        failed = 0
        try:
            async with deadline.timer():
                while True:
                    try:
                        return await attempt()
                    except AttemptFailed as failure:
                        failed += 1
                        pause = self._next_pause(failure, failed, deadline)
                        if pause is None:
                            raise failure.error from failure
                        log.warning("Attempt %d failed, next in %.2f s: %s", failed, pause, failure)
                    await self._sleep(pause)
        except TimeoutError:
            raise deadline.error() from None

    def _next_pause(self, failure: AttemptFailed, failed: int, deadline: Deadline) -> float | None:
        if not failure.retry:
            return None
        pause = self._policy.pause(failed, failure.error.retry_after)
        if pause is None or pause >= deadline.remaining() or not self._budget.spend():
            return None
        return pause


def parse_retry_after(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header: a number of them or an HTTP date; none for others."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
