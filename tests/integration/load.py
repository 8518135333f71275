"""Constant requests to a healthy skill, all of which have to succeed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import httpx

from tests.support.kernel import KernelProcess, until

Judge = Callable[[httpx.Response], str]
"""Names the outcome of a request."""


def status(response: httpx.Response) -> str:
    return str(response.status_code)


@dataclass
class Load:
    """What came of the requests so far, counted by outcome."""

    outcomes: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    @property
    def answered(self) -> int:
        return self.outcomes.total()

    async def goes_on(self, answers: int = 8) -> None:
        """Wait for so many further answers."""
        enough = self.answered + answers

        async def reached() -> bool:
            return self.answered >= enough

        await until(reached, "the load is answered")


@contextlib.asynccontextmanager
async def load(
    kernel: KernelProcess,
    skill: str = "greet",
    *,
    workers: int = 4,
    judge: Judge = status,
    only: frozenset[str] | None = frozenset({"200"}),
) -> AsyncGenerator[Load, None]:
    """Requests as long as the block lasts; in the end there may be no outcomes but ``only``."""
    result = Load()

    async def work() -> None:
        while not result.stopped:
            result.outcomes[judge(await kernel.run(skill, {"name": "Homer"}))] += 1

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    try:
        await result.goes_on()
        yield result
        await result.goes_on()
    finally:
        result.stopped = True
        await asyncio.gather(*tasks)
    assert only is None or result.outcomes.keys() <= only, result.outcomes
