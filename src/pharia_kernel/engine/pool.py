"""All engine processes: where a run goes, what happens when one dies, and when there is no room."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from pharia_kernel.engine.api import Artifact, GuestMetadata, Host, Refused, Returned
from pharia_kernel.engine.process import ActiveRun, EngineProcess, EngineSettings
from pharia_kernel.errors import (
    CompileFailed,
    EngineLost,
    InvalidMetadata,
    KernelError,
    Overloaded,
    RunTimedOut,
    ShuttingDown,
    SkillQuarantined,
)
from pharia_kernel.telemetry import metrics

log = logging.getLogger("pharia_kernel.engine")

_LONGEST_BACKOFF = 10.0


class PoolSettings(Struct, frozen=True, kw_only=True):
    engines: int
    queue_length: int
    """Runs that may wait for a place in an engine."""
    quarantine_after: int
    """Crashes of engines, while they executed one component, after which it is refused."""
    quarantine_window: float
    """Seconds in which the crashes count, and for which the component is refused."""
    engine: EngineSettings


class _WireMetadata(Struct, rename="kebab"):
    description: str | None
    input_schema: bytes
    output_schema: bytes


class Quarantine:
    """Counts the engine crashes that a component is blamed for."""

    def __init__(self, after: int, window: float) -> None:
        self._after = after
        self._window = window
        self._crashes: dict[str, deque[float]] = {}

    def blame(self, digest: str) -> None:
        crashes = self._crashes.setdefault(digest, deque(maxlen=self._after))
        crashes.append(time.monotonic())
        if self.remaining(digest):
            log.error("component %s is quarantined for %.0f s", digest, self._window)

    def remaining(self, digest: str) -> float:
        """Seconds for which the component is still refused."""
        crashes = self._crashes.get(digest)
        if not crashes or len(crashes) < self._after:
            return 0.0
        if crashes[-1] - crashes[0] > self._window:
            return 0.0
        return max(0.0, crashes[-1] + self._window - time.monotonic())

    def check(self, digest: str) -> None:
        remaining = self.remaining(digest)
        if remaining:
            raise SkillQuarantined(
                f"The skill crashed {self._after} engine processes and is refused for a while.",
                retry_after=remaining,
            )

    def listing(self) -> dict[str, float]:
        return {digest: left for digest in self._crashes if (left := self.remaining(digest))}


Place = tuple[EngineProcess, ActiveRun]


class _Request:
    """A run that looks for a place in an engine."""

    def __init__(
        self,
        artifact: Artifact,
        entry: Literal["run", "metadata"],
        input: bytes,
        host: Host,
        memory_limit: int | None,
    ) -> None:
        self.artifact = artifact
        self.place: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        """Set when the run was queued and has begun, or can't begin."""
        self._entry = entry
        self._input = input
        self._host = host
        self._memory_limit = memory_limit

    def begin(self, engine: EngineProcess) -> Place:
        return engine, engine.begin(
            self.artifact, self._entry, self._input, self._host, self._memory_limit
        )


class Pool:
    """Implements ``engine.api.EnginePool``."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._artifacts: dict[str, Artifact] = {}
        self._engines: list[EngineProcess | None] = [None] * settings.engines
        self._supervisors: list[asyncio.Task[None]] = []
        self._queue: deque[_Request] = deque()
        self._some_ready = asyncio.Event()
        self._closing = False
        self.restarts = 0
        self.quarantine = Quarantine(settings.quarantine_after, settings.quarantine_window)

    # --- life

    async def start(self) -> None:
        """Start all engines and wait until one takes runs; raises ``EngineLost`` if none can be
        started."""
        self._supervisors = [
            asyncio.create_task(self._supervise(index)) for index in range(len(self._engines))
        ]
        first = asyncio.create_task(self._some_ready.wait())
        try:
            await asyncio.wait({first}, timeout=60)
            if not first.done():
                raise EngineLost("No engine process could be started; see the log.")
        finally:
            first.cancel()

    async def close(self) -> None:
        """End all engines; runs in flight fail."""
        self._closing = True
        for request in self._queue:
            if not request.place.done():
                request.place.set_exception(ShuttingDown("The kernel is shutting down."))
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        await asyncio.gather(*(engine.close() for engine in self._engines if engine))

    async def _supervise(self, index: int) -> None:
        backoff = 0.1
        while not self._closing:
            engine = EngineProcess(index, self._settings.engine, self._freed)
            self._engines[index] = engine
            began = time.monotonic()
            try:
                await engine.start()
                # More may come while these are loading; between the last check and ``ready``
                # nothing can.
                while missing := [a for a in self._artifacts.values() if not engine.has(a.digest)]:
                    await asyncio.gather(*(self._load(engine, artifact) for artifact in missing))
                if not engine.lost.done():
                    engine.ready = True
                    self._some_ready.set()
                    self._freed()
                await asyncio.shield(engine.lost)
            except (EngineLost, OSError) as error:
                log.error("engine %d could not be started: %s", index, error)
            if engine.blamed:
                self.quarantine.blame(engine.blamed)
            self.restarts += 1
            metrics.engine_ended()
            backoff = 0.1 if time.monotonic() - began > 5 else min(backoff * 2, _LONGEST_BACKOFF)
            await asyncio.sleep(backoff - 0.1)

    # --- components

    async def load(self, artifact: Artifact) -> None:
        self._artifacts[artifact.digest] = artifact
        engines = [engine for engine in self._engines if engine and engine.ready]
        errors = await asyncio.gather(*(self._load(engine, artifact) for engine in engines))
        for error in filter(None, errors):
            await self.unload(artifact.digest)
            raise CompileFailed(f"The compiled component can't be loaded: {error}.")

    async def _load(self, engine: EngineProcess, artifact: Artifact) -> str | None:
        error = await engine.load(artifact)
        if error:
            log.error("engine %d can't load %s: %s", engine.index, artifact.digest, error)
        return error

    async def unload(self, digest: str) -> None:
        if self._artifacts.pop(digest, None):
            for engine in self._engines:
                if engine:
                    engine.unload(digest)

    def holds(self, path: Path) -> bool:
        """Whether engines, also ones that are started later, load this artifact. For any thread."""
        return any(artifact.path == path for artifact in list(self._artifacts.values()))

    # --- runs

    async def run(
        self,
        artifact: Artifact,
        input: bytes,
        host: Host,
        *,
        deadline: float,
        memory_limit: int | None = None,
    ) -> Returned | Refused:
        request = _Request(artifact, "run", input, host, memory_limit)
        return await self._invoke(request, deadline)

    async def metadata(self, artifact: Artifact, host: Host, *, deadline: float) -> GuestMetadata:
        request = _Request(artifact, "metadata", b"", host, None)
        outcome = await self._invoke(request, deadline)
        assert isinstance(outcome, Returned)  # the export has no error case
        try:
            wire = msgspec.msgpack.decode(outcome.value, type=_WireMetadata)
        except msgspec.MsgspecError as error:
            raise InvalidMetadata(f"The skill's metadata has the wrong shape: {error}.") from error
        return GuestMetadata(wire.description, wire.input_schema, wire.output_schema)

    async def _invoke(self, request: _Request, deadline: float) -> Returned | Refused:
        engine, run = await self._place(request, deadline)
        timer = asyncio.get_running_loop().call_later(
            max(0.0, deadline - time.monotonic()), self._time_out, engine, run
        )
        try:
            return await run.outcome
        finally:
            timer.cancel()
            engine.cancel(run)

    def _time_out(self, engine: EngineProcess, run: ActiveRun) -> None:
        run.fail(RunTimedOut("The run did not end within its time limit (`run-timeout`)."))
        engine.cancel(run)

    # --- room

    async def _place(self, request: _Request, deadline: float) -> Place:
        """Begin in the engine with the most room, or queue: first come, first served."""
        self.quarantine.check(request.artifact.digest)
        engine = None if self._queue else self._roomiest()
        if engine:
            return request.begin(engine)
        if self._closing:
            raise ShuttingDown("The kernel is shutting down.")
        if len(self._queue) >= self._settings.queue_length:
            raise Overloaded(
                "All engines are full and so is the queue (`max-runs-per-engine`, "
                "`run-queue-length`).",
                retry_after=1.0,
            )
        return await self._wait_in_queue(request, deadline)

    async def _wait_in_queue(self, request: _Request, deadline: float) -> Place:
        self._queue.append(request)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await request.place
        except (TimeoutError, asyncio.CancelledError) as end:
            place = request.place
            if place.done() and not place.cancelled() and not place.exception():
                engine, run = place.result()  # it came just now, and too late
                engine.cancel(run)
            if isinstance(end, TimeoutError):
                raise RunTimedOut(
                    "The run found no room in an engine within its time limit."
                ) from None
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._queue.remove(request)

    def _roomiest(self) -> EngineProcess | None:
        ready = [engine for engine in self._engines if engine and engine.ready]
        engine = min(ready, key=lambda engine: len(engine.runs), default=None)
        if engine and len(engine.runs) < self._settings.engine.max_runs:
            return engine
        return None

    def _freed(self) -> None:
        """There may be room: begin the runs that have waited longest."""
        while self._queue and (engine := self._roomiest()):
            request = self._queue.popleft()
            if request.place.done():
                continue
            try:
                self.quarantine.check(request.artifact.digest)
                request.place.set_result(request.begin(engine))
            except KernelError as error:
                request.place.set_exception(error)

    # --- what operators see

    def active_runs(self) -> int:
        return sum(len(engine.runs) for engine in self._engines if engine)

    def statistics(self) -> dict[str, Any]:
        """State of every engine, the queue, and the quarantine."""
        return {
            "ready": any(engine and engine.ready for engine in self._engines),
            "engines": [
                {
                    "pid": engine.pid if engine else None,
                    "ready": bool(engine and engine.ready),
                    "runs": len(engine.runs) if engine else 0,
                }
                for engine in self._engines
            ],
            "queued": len(self._queue),
            "queue_capacity": self._settings.queue_length,
            "restarts": self.restarts,
            "components": len(self._artifacts),
            "quarantined": self.quarantine.listing(),
        }
