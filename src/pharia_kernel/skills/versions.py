"""Components by content: each digest is compiled once and loaded once, whoever uses it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pharia_kernel.engine.api import Artifact, Compiler, ComponentInfo, EnginePool
from pharia_kernel.errors import SkillLoadError
from pharia_kernel.skills.registry.base import Blob

logger = logging.getLogger(__name__)

Read = Callable[[], Awaitable[Blob]]
"""Gets the bytes from a registry, if they turn out to be needed."""
GiveBack = Callable[["Version"], None]


class ContentChanged(Exception):
    """The registry now holds other bytes than those that were asked for."""


class _Flight:
    """One attempt to make a version ready, and how many wait for it."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
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
        self, compiler: Compiler, pool: EnginePool, *, capacity: int, compile_jobs: int = 1
    ) -> None:
        self._compiler = compiler
        self._pool = pool
        self._capacity = capacity
        self._versions: dict[str, Version] = {}
        self._loaded_bytes = 0
        self._trimming = False
        # The bytes of a component stay in memory from reading until they are compiled. One more
        # than can be compiled at once keeps the compiler busy.
        self._in_memory = asyncio.Semaphore(compile_jobs + 1)
        self._background: set[asyncio.Task[None]] = set()

    # --- for skills -------------------------------------------------------------------------------

    async def acquire(self, digest: str, read: Read) -> Version:
        """The compiled and loaded version, kept until ``release``.

        Raises ``ContentChanged`` if ``read`` brings other bytes, what ``read`` raises, or
        ``SkillLoadError``.
        """
        version = self._versions.setdefault(digest, Version(digest))
        version.users += 1
        try:
            if not version.loaded:
                await self._join(version, read)
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

    async def lend(self, version: Version, read: Read) -> Loan:
        """The version for one run; loads it again if it had to make room, and waits for nothing
        if it is loaded.
        """
        version.runs += 1  # before anything is awaited: from here on nobody unloads it
        try:
            if version.artifact is None:
                await self._join(version, read)
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

    async def _join(self, version: Version, read: Read) -> None:
        """Wait for the one task that makes the version ready; the last to give up cancels it."""
        if version.flight is None or version.flight.task.done():
            version.flight = _Flight(self._spawn(self._make_ready(version, read)))
        flight = version.flight
        flight.waiting += 1
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
            if not flight.waiting and version.flight is flight:
                version.flight = None

    async def _make_ready(self, version: Version, read: Read) -> None:
        cached = await self._compiler.cached(version.digest)
        artifact = cached or await self._compiled(version.digest, read)
        try:
            await self._finish_loading(version, artifact)
        except SkillLoadError as error:
            if cached is None:
                raise
            logger.warning("Compiling %s again: %s", version.digest, error.detail)
            await self._compiler.discard(version.digest)
            await self._finish_loading(version, await self._compiled(version.digest, read))

    async def _finish_loading(self, version: Version, artifact: Artifact) -> None:
        version.info = artifact.info
        # A load that was begun is finished even if nobody waits for it any more: half-loaded
        # engines would be nobody's business.
        await asyncio.shield(self._spawn(self._load(version, artifact)))

    async def _compiled(self, digest: str, read: Read) -> Artifact:
        async with self._in_memory:
            blob = await read()
            if blob.snapshot.digest != digest:
                raise ContentChanged
            return await self._compiler.compile(digest, blob.wasm)

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
