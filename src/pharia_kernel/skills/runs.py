"""Runs in flight: who may start, how long they may take, and one log line when they end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from secrets import token_hex
from typing import TypeVar

from pharia_kernel.csi.types import CallContext
from pharia_kernel.errors import Fixer, KernelError, Overloaded, ShuttingDown
from pharia_kernel.skills.failures import fresh, printable
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import Caller, SkillSettings
from pharia_kernel.telemetry import runs as telemetry

logger = logging.getLogger(__name__)

_DEFAULT_SETTINGS = SkillSettings()


class Run:
    """One run, from the request to its outcome."""

    def __init__(
        self, path: SkillPath, caller: Caller, settings: SkillSettings, deadline: float
    ) -> None:
        self.path = path
        self.settings = settings
        """As they were when the run began."""
        self.digest: str | None = None
        """Of the version that it uses; none before it has one, and for skills without a
        component."""
        self.id = token_hex(16)
        self.deadline = deadline
        """Point on ``time.monotonic()``; covers waiting, the skill and its system calls."""
        self.context = CallContext(
            token=caller.token,
            namespace=path.namespace,
            skill=str(path),
            run_id=self.id,
            deadline=deadline,
            trace_headers=caller.trace_headers,
            allowed_tools=_allowed_tools(settings),
        )
        self.stopped = False
        self._task = asyncio.current_task()

    @property
    def version(self) -> dict[str, str]:
        """Extra fields of log lines."""
        return {"digest": self.digest} if self.digest else {}

    @asynccontextmanager
    async def within_deadline(self, error: KernelError) -> AsyncGenerator[None, None]:
        """Raise ``error`` if the block does not end before the deadline."""
        try:
            async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())) as timeout:
                yield
        except TimeoutError:
            if timeout.expired():
                raise error from None
            raise

    def stop(self) -> None:
        """End the run with ``ShuttingDown``."""
        self.stopped = True
        if self._task:
            self._task.cancel()

    def was_stopped(self) -> bool:
        """To be asked when the run's task was cancelled: whether ``stop`` did it (and nobody
        else).
        """
        return self.stopped and self._task is not None and not self._task.uncancel()


class Runs:
    """``timeout`` is in seconds, ``per_skill`` the number of runs that one skill may have at
    once. Settings of a skill can lower both.
    """

    def __init__(self, *, timeout: float, per_skill: int) -> None:
        self._timeout = timeout
        self._per_skill = per_skill
        self._active: set[Run] = set()
        self._count: Counter[SkillPath] = Counter()
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._active)

    @contextmanager
    def scope(
        self,
        path: SkillPath,
        caller: Caller,
        settings: SkillSettings = _DEFAULT_SETTINGS,
        *,
        action: str = "executed",
    ) -> Generator[Run, None, None]:
        """Everything that happens for one request to a skill.

        Raises ``Overloaded`` or ``ShuttingDown`` on entry. What the block raises leaves as a
        ``KernelError`` that names the skill and the run.
        """
        began = time.monotonic()
        run = Run(path, caller, settings, began + _lower(self._timeout, settings.run_timeout))
        counted = action == "executed"
        with (
            telemetry.Tracked(path.namespace, path.name, run.id, counted=counted),
            self._outcome(run, began, action),
        ):
            yield run

    @contextmanager
    def _outcome(self, run: Run, began: float, action: str) -> Generator[None, None, None]:
        try:
            self._enter(run)
            try:
                yield
            finally:
                self._leave(run)
        except asyncio.CancelledError:
            if not run.was_stopped():
                logger.info("Skill run was cancelled: %s", _facts(run, began), extra=run.version)
                raise
            raise self._failed(run, began, ShuttingDown(_SHUTTING_DOWN)) from None
        except KernelError as error:
            raise self._failed(run, began, error) from error
        except Exception as error:
            facts = _facts(run, began)
            logger.exception("Skill run failed inside the kernel: %s", facts, extra=run.version)
            raise self._failed(
                run, began, KernelError("The kernel failed to run the skill.")
            ) from error
        else:
            facts = _facts(run, began)
            logger.info("Skill %s successfully: %s", action, facts, extra=run.version)

    async def close(self, drain: float) -> None:
        """Refuse new runs, give those in flight ``drain`` seconds, then end them."""
        self._closing = True
        try:
            async with asyncio.timeout(drain):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("%d runs did not end in time and are cancelled", len(self._active))
            for run in list(self._active):
                run.stop()
            await self._idle.wait()

    def _enter(self, run: Run) -> None:
        if self._closing:
            raise ShuttingDown(_SHUTTING_DOWN)
        limit = _lower(self._per_skill, run.settings.max_runs)
        if self._count[run.path] >= limit:
            setting = "max-runs" if limit < self._per_skill else "max-runs-per-skill"
            raise Overloaded(
                f"Skill `{run.path}` has {limit} runs at once, which is its limit (`{setting}`).",
                retry_after=1.0,
            )
        self._count[run.path] += 1
        self._active.add(run)
        self._idle.clear()

    def _leave(self, run: Run) -> None:
        self._active.discard(run)
        self._count[run.path] -= 1
        if not self._count[run.path]:
            del self._count[run.path]
        if not self._active:
            self._idle.set()

    def _failed(self, run: Run, began: float, error: KernelError) -> KernelError:
        logger.log(
            _level(error),
            "Skill invocation failed: %s error=%s: %s",
            _facts(run, began),
            error.code,
            printable(error.detail, 1000),
            extra=run.version,
        )
        return fresh(error, skill=str(run.path), run_id=run.id)


_SHUTTING_DOWN = "The kernel is shutting down."


def _facts(run: Run, began: float) -> str:
    path, seconds = printable(str(run.path)), time.monotonic() - began
    return f"skill={path} run={run.id} duration={seconds:.3f}s"


def _level(error: KernelError) -> int:
    if error.status < 500 or isinstance(error, ShuttingDown):
        return logging.INFO
    return logging.WARNING if error.fixer is Fixer.SKILL_AUTHOR else logging.ERROR


_Limit = TypeVar("_Limit", int, float)


def _lower(kernel: _Limit, skill: _Limit | None) -> _Limit:
    return kernel if skill is None else min(kernel, skill)


def _allowed_tools(settings: SkillSettings) -> frozenset[str] | None:
    return None if settings.allowed_tools is None else frozenset(settings.allowed_tools)
