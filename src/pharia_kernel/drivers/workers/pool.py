"""Some worker processes of one kind, shared by all callers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from msgspec import Struct

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.inference.limiter import FairLimiter
from pharia_kernel.drivers.workers.process import ProcessLost, WorkerProcess
from pharia_kernel.errors import (
    CallTooExpensive,
    CsiError,
    KernelError,
    NotConfigured,
    ShuttingDown,
    UpstreamOverloaded,
)

T = TypeVar("T")

_MAX_WAITING = 16_384


class WorkerSettings(Struct, frozen=True, kw_only=True):
    module: str
    """What the processes run."""
    purpose: str
    """What they do, for error messages: ``split the text``."""
    processes: int
    time_limit: float
    """Seconds for one piece of work, without the wait for a free process."""
    memory_limit: int
    """Bytes of address space for one process."""
    finish_abandoned: bool = False
    """What becomes of work whose caller has left: it is brought to its end, because a new process
    is expensive; else the process is killed, because the work may be."""


class WorkerPool:
    """Processes start when they are needed and stay. Skills get them in turns."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._limiter = FairLimiter(settings.processes, max_waiting=_MAX_WAITING)
        self._idle: list[WorkerProcess] = []
        self._processes: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def pids(self) -> set[int]:
        return {process.pid for process in self._processes}

    async def run(
        self, work: Callable[[WorkerProcess, float], Awaitable[T]], context: CallContext
    ) -> T:
        """The result of ``work``, which gets a process and how many seconds it has.

        A ``CsiError`` from ``work`` says that the process can be used again. Raises itself
        ``CallTooExpensive``, ``UpstreamOverloaded``, and ``ShuttingDown`` after ``close``.
        """
        await self._wait_for_place(context)
        job = asyncio.create_task(self._run(work, self._seconds(context)))
        self._tasks.add(job)
        # Not in the task itself, which does not even begin if it is cancelled at once.
        job.add_done_callback(self._done)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            if not self._settings.finish_abandoned:
                job.cancel()
            raise

    async def close(self) -> None:
        """Ends all processes; calls in flight fail."""
        self._closed = True
        for process in list(self._processes):
            self._end(process)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _seconds(self, context: CallContext) -> float:
        remaining = context.remaining()
        limit = self._settings.time_limit
        return limit if remaining is None else min(limit, remaining)

    async def _wait_for_place(self, context: CallContext) -> None:
        try:
            await self._limiter.acquire(context.skill or context.namespace or "")
        except UpstreamOverloaded as error:
            raise UpstreamOverloaded(
                f"{_MAX_WAITING} calls already wait for a process to {self._settings.purpose}.",
                retry_after=error.retry_after,
            ) from None

    def _done(self, job: asyncio.Task[Any]) -> None:
        self._limiter.release()
        self._tasks.discard(job)
        if not job.cancelled():
            job.exception()  # nobody else may look at it

    async def _run(self, work: Callable[[WorkerProcess, float], Awaitable[T]], seconds: float) -> T:
        process = await self._take()
        try:
            with self._given_back(process):
                async with asyncio.timeout(seconds):
                    return await work(process, seconds)
        except TimeoutError:
            raise CallTooExpensive(
                f"The kernel could not {self._settings.purpose} within {seconds:.3g} s."
            ) from None
        except ProcessLost as error:
            raise self._lost() from error

    def _lost(self) -> KernelError:
        if self._closed:
            return ShuttingDown("The kernel is shutting down.")
        return CallTooExpensive(
            f"The process that was to {self._settings.purpose} ended early. "
            f"It may have {self._settings.memory_limit} bytes of memory."
        )

    async def _take(self) -> WorkerProcess:
        if self._closed:
            raise ShuttingDown("The kernel is shutting down.")
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            self._end(process)
        try:
            process = await WorkerProcess.start(self._settings.module, self._settings.memory_limit)
        except OSError as error:
            raise NotConfigured(
                f"No process to {self._settings.purpose} can be started: {error.strerror}."
            ) from error
        self._processes.add(process)
        if self._closed:
            self._end(process)
        return process

    @contextlib.contextmanager
    def _given_back(self, process: WorkerProcess) -> Iterator[None]:
        """Back to the idle ones, unless half of an answer may be in its pipes."""
        try:
            yield
        except CsiError:
            self._idle.append(process)
            raise
        except BaseException:
            self._end(process)
            raise
        self._idle.append(process)

    def _end(self, process: WorkerProcess) -> None:
        if process not in self._processes:
            return
        process.kill()
        self._processes.remove(process)
        ending = asyncio.create_task(process.ended())
        self._tasks.add(ending)
        ending.add_done_callback(self._tasks.discard)
