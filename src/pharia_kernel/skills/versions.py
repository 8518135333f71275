"""Components by content: each digest is compiled once and loaded once, whoever uses it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Protocol
from weakref import WeakValueDictionary

from pharia_kernel.engine.api import Artifact, Compiler, ComponentInfo, EnginePool
from pharia_kernel.errors import SkillLoadError, SkillUnavailable
from pharia_kernel.skills.registry.base import Blob
from pharia_kernel.skills.types import VersionState
from pharia_kernel.telemetry import metrics, names
from pharia_kernel.telemetry.loading import Stages, compiling

logger = logging.getLogger(__name__)

READS_PER_REGISTRY = 2
"""Components that are read from one registry at once."""
SPARE_PLACES = 3
"""Components in memory beyond those that are being compiled. More than one registry can take, so
that one that hangs leaves places to the others."""
READ_LIMIT = 600.0
"""Seconds in which a component has to be read."""


class Supply(Protocol):
    """Where a component's bytes come from, if they turn out to be needed."""

    @property
    def registry(self) -> object:
        """Supplies with the same one take turns."""
        ...

    async def read(self) -> Blob: ...


GiveBack = Callable[["Version"], None]


class ContentChanged(Exception):
    """The registry now holds other bytes than those that were asked for."""


_SPANS = {
    VersionState.PULLED: names.DOWNLOAD,
    VersionState.COMPILED: names.COMPILE,
    VersionState.READY: names.LOAD,
}


class Progress:
    """How far one attempt to make a version ready has come; read by all who wait for it."""

    def __init__(self) -> None:
        self.state = VersionState.FOUND
        self.since = time.time()
        """Unix seconds."""
        self.aim = VersionState.FOUND
        """The state that is, or was last, being worked on."""
        self.stages = Stages()
        """The same for traces."""
        self.seconds: dict[VersionState, float] = {}
        """Of the states that were reached; waiting for a turn is included in compiling."""

    @contextmanager
    def towards(self, state: VersionState) -> Generator[None, None, None]:
        """The state is reached if the block ends well."""
        self.aim = state
        began = time.monotonic()
        with self.stages.stage(_SPANS[state]):
            yield
        self.seconds[state] = time.monotonic() - began
        self.state, self.since = state, time.time()


class _Flight:
    """One attempt to make a version ready, and how many wait for it."""

    def __init__(self, task: asyncio.Task[None], progress: Progress) -> None:
        self.task = task
        self.progress = progress
        self.waiting = 0


class Version:
    """One component, by the digest of its bytes."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.info: ComponentInfo | None = None
        """Known once the component was compiled."""
        self.artifact: Artifact | None = None
        """What the engines have loaded; none if they have not."""
        self.users = 0
        """Skills that serve this version or prepare it."""
        self.runs = 0
        self.last_used = 0.0
        self.stages = Stages()
        """Of the last time that it was made ready."""
        self.evicted = False
        """Asked to leave the engines as soon as no run needs it."""
        self.flight: _Flight | None = None
        self.lock = asyncio.Lock()
        """Loading and unloading take turns."""

    @property
    def loaded(self) -> bool:
        return self.artifact is not None


class Loan:
    """A version that stays loaded for one run: a context, which gives it back."""

    def __init__(self, version: Version, artifact: Artifact, give_back: GiveBack) -> None:
        self.version = version
        self.artifact = artifact
        self._give_back = give_back

    def __enter__(self) -> Loan:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back(self.version)


class Versions:
    """Prepares versions, lends them to runs, and keeps what the engines have loaded within
    ``capacity``.

    ``capacity`` is in bytes of artifacts. A version in use is never unloaded, nor is the one that
    was used last, so a skill larger than the capacity still runs.
    """

    def __init__(
        self,
        compiler: Compiler,
        pool: EnginePool,
        *,
        capacity: int,
        compile_jobs: int = 1,
        read_limit: float = READ_LIMIT,
    ) -> None:
        self._compiler = compiler
        self._pool = pool
        self._capacity = capacity
        self._versions: dict[str, Version] = {}
        self._loaded_bytes = 0
        self._trimming = False
        self._read_limit = read_limit
        # The bytes of a component stay in memory from reading until they are compiled.
        self._in_memory = asyncio.Semaphore(compile_jobs + SPARE_PLACES)
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._background: set[asyncio.Task[None]] = set()

    # --- for skills -------------------------------------------------------------------------------

    async def acquire(
        self,
        digest: str,
        supply: Supply,
        watch: Callable[[Progress], None] = lambda _: None,
    ) -> Version:
        """The compiled and loaded version, kept until ``release``.

        ``watch`` gets the progress, unless the version is loaded already. Raises
        ``ContentChanged`` if the supply has other bytes, what reading raises, or
        ``SkillLoadError``.
        """
        version = self._versions.setdefault(digest, Version(digest))
        version.users += 1
        try:
            if not version.loaded:
                await self._join(version, supply, watch)
        except BaseException:
            self.release(version)
            raise
        return version

    def release(self, version: Version) -> None:
        """Give back what ``acquire`` gave; nobody may start a run on it through this user any
        more.
        """
        version.users -= 1
        self._settle(version)

    async def lend(self, version: Version, supply: Supply) -> Loan:
        """The version for one run; loads it again if it had to make room, and waits for nothing
        if it is loaded.
        """
        version.runs += 1  # before anything is awaited: from here on nobody unloads it
        try:
            if version.artifact is None:
                await self._join(version, supply)
        except BaseException:
            self._give_back(version)
            raise
        assert version.artifact is not None  # loaded, and pinned by this run
        version.last_used = time.monotonic()
        return Loan(version, version.artifact, self._give_back)

    def _give_back(self, version: Version) -> None:
        version.runs -= 1
        self._settle(version)

    def evict(self, version: Version) -> bool:
        """Unload as soon as no run needs it; false if it was not loaded."""
        if not version.loaded:
            return False
        version.evicted = True
        self._settle(version)
        return True

    async def close(self) -> None:
        """Stop what is under way. The engines keep what they have loaded."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- making ready -----------------------------------------------------------------------------

    async def _join(
        self,
        version: Version,
        supply: Supply,
        watch: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """Wait for the one task that makes the version ready; the last to give up cancels it."""
        if version.flight is None or version.flight.task.done():
            progress = Progress()
            task = self._spawn(self._make_ready(version, supply, progress))
            version.flight = _Flight(task, progress)
        flight = version.flight
        version.stages = flight.progress.stages
        watch(flight.progress)
        flight.waiting += 1
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
            if not flight.waiting and version.flight is flight:
                version.flight = None

    async def _make_ready(self, version: Version, supply: Supply, progress: Progress) -> None:
        cached = await self._compiler.cached(version.digest)
        metrics.artifact_looked_up(hit=cached is not None)
        artifact = cached or await self._compiled(version.digest, supply, progress)
        try:
            await self._finish_loading(version, artifact, progress)
        except SkillLoadError as error:
            if cached is None:
                raise
            logger.warning("Compiling %s again: %s", version.digest, error.detail)
            await self._compiler.discard(version.digest)
            artifact = await self._compiled(version.digest, supply, progress)
            await self._finish_loading(version, artifact, progress)

    async def _finish_loading(
        self, version: Version, artifact: Artifact, progress: Progress
    ) -> None:
        version.info = artifact.info
        with progress.towards(VersionState.READY):
            # A load that was begun is finished even if nobody waits for it any more: half-loaded
            # engines would be nobody's business.
            await asyncio.shield(self._spawn(self._load(version, artifact)))

    async def _compiled(self, digest: str, supply: Supply, progress: Progress) -> Artifact:
        async with AsyncExitStack() as place:
            async with self._turn(supply.registry):
                await place.enter_async_context(self._in_memory)
                with progress.towards(VersionState.PULLED):
                    blob = await self._read(digest, supply)
            with progress.towards(VersionState.COMPILED), compiling():
                return await self._compiler.compile(digest, blob.wasm)

    async def _read(self, digest: str, supply: Supply) -> Blob:
        try:
            async with asyncio.timeout(self._read_limit) as limit:
                blob = await supply.read()
        except TimeoutError:
            if not limit.expired():
                raise
            raise SkillUnavailable(
                f"The component could not be read from its registry in {self._read_limit:g} s."
            ) from None
        if blob.snapshot.digest != digest:
            raise ContentChanged
        return blob

    def _turn(self, registry: object) -> asyncio.Semaphore:
        # Whoever waits or reads holds a reference to the supply, so the number is taken.
        key = id(registry)
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = asyncio.Semaphore(READS_PER_REGISTRY)
        return turn

    # --- loading and unloading --------------------------------------------------------------------

    async def _load(self, version: Version, artifact: Artifact) -> None:
        try:
            async with version.lock:
                if version.loaded:
                    return
                await self._make_room(artifact.size)
                await self._pool.load(artifact)
                version.artifact = artifact
                version.evicted = False
                version.last_used = time.monotonic()
                self._loaded_bytes += artifact.size
        finally:
            self._settle(version)

    async def _unload(self, version: Version) -> None:
        async with version.lock:
            if version.artifact is None or version.runs:
                return
            self._loaded_bytes -= version.artifact.size
            version.artifact = None
            version.evicted = False
            try:
                await self._pool.unload(version.digest)
            except Exception:
                logger.exception("The engines could not unload %s", version.digest)
        self._settle(version)

    async def _make_room(self, size: int, *, spare_newest: bool = False) -> None:
        while self._loaded_bytes + size > self._capacity:
            victim = self._least_recently_used(spare_newest=spare_newest)
            if victim is None:
                return
            await self._unload(victim)

    async def _trim(self) -> None:
        try:
            await self._make_room(0, spare_newest=True)
        finally:
            self._trimming = False

    def _settle(self, version: Version) -> None:
        """The one decision about leaving: unload what nobody needs, then what does not fit."""
        idle = not version.runs and version.flight is None
        if idle and version.loaded and (not version.users or version.evicted):
            self._spawn(self._unload(version))
        elif idle and not version.loaded and not version.users and not version.lock.locked():
            if self._versions.get(version.digest) is version:
                del self._versions[version.digest]
        elif self._loaded_bytes > self._capacity and not self._trimming:
            self._trimming = True
            self._spawn(self._trim())

    def _least_recently_used(self, *, spare_newest: bool) -> Version | None:
        loaded = sorted((v for v in self._versions.values() if v.loaded), key=lambda v: v.last_used)
        candidates = loaded[:-1] if spare_newest else loaded
        return next((v for v in candidates if not v.runs), None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._land)
        return task

    def _land(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # those who wait are told; others need not know
