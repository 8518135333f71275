"""Tries a skill with cases."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pharia_kernel_sdk.publishing.errors import KernelError
from pharia_kernel_sdk.running.cases import Case
from pharia_kernel_sdk.running.errors import SkillError
from pharia_kernel_sdk.running.results import Streamed
from pharia_kernel_sdk.running.skill import Runnable
from pharia_kernel_sdk.transport import CsiError

_EVERY_CASE = (None, 401, 403, 404)
"""Statuses of a kernel that answers all cases in this way, if one."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    name: str
    seconds: float
    output: Any = None
    """JSON; of a message stream its text."""
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Evaluation:
    """Outcomes in the order of the cases, of which there is at least one."""

    outcomes: list[Outcome]

    @property
    def failed(self) -> int:
        return sum(not outcome.passed for outcome in self.outcomes)

    @property
    def passed(self) -> int:
        return len(self.outcomes) - self.failed

    @property
    def median(self) -> float:
        """Seconds of a case."""
        return statistics.median(outcome.seconds for outcome in self.outcomes)

    @property
    def slowest(self) -> float:
        """Seconds of a case."""
        return max(outcome.seconds for outcome in self.outcomes)


def evaluate(
    skill: Runnable,
    cases: Sequence[Case],
    concurrency: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Runs ``concurrency`` cases at once; ``progress`` gets how many are done.

    Raises ``KernelError`` if a kernel can't be asked, or does not know the skill.
    """
    outcomes = []
    with ThreadPoolExecutor(concurrency, "case") as threads:
        try:
            for outcome in threads.map(lambda case: _try(skill, case), cases):
                outcomes.append(outcome)
                progress(len(outcomes))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return Evaluation(outcomes)


def _try(skill: Runnable, case: Case) -> Outcome:
    began = time.monotonic()
    try:
        output = skill.run(case.data())
    except (SkillError, CsiError) as error:
        return Outcome(case.name, time.monotonic() - began, problems=[str(error)])
    except KernelError as error:
        if error.status in _EVERY_CASE:
            raise
        return Outcome(case.name, time.monotonic() - began, problems=[str(error)])
    took = time.monotonic() - began
    shown = output.text if isinstance(output, Streamed) else output
    return Outcome(case.name, took, shown, case.problems(output))
