"""One configured skill: follows its registry and serves the newest version that works."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from msgspec import Struct

from pharia_kernel.errors import KernelError, SkillNotReady, SkillUnavailable
from pharia_kernel.skills.failures import fresh
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.registry.base import Blob, Registry, Snapshot
from pharia_kernel.skills.types import SkillInfo, SkillKind, SkillStatus
from pharia_kernel.skills.versions import ContentChanged, Loan, Version, Versions

logger = logging.getLogger(__name__)


class ComponentSource(Struct, frozen=True):
    """Where a configured skill's component is."""

    registry: Registry
    name: str
    tag: str = "latest"

    async def snapshot(self) -> Snapshot:
        return await self.registry.snapshot(self.name, self.tag)

    async def changed(self, since: Snapshot) -> bool:
        return await self.registry.changed(self.name, self.tag, since)

    async def read(self) -> Blob:
        return await self.registry.read(self.name, self.tag)


class Backoff(Struct, frozen=True):
    """Pauses between attempts that may succeed without a change of the component, in seconds."""

    first: float = 1.0
    longest: float = 60.0

    def pause(self, attempt: int) -> float:
        return float(min(self.longest, self.first * 2 ** min(attempt, 30)))


DEFAULT_BACKOFF = Backoff()


class _Preparation(Struct):
    snapshot: Snapshot
    task: asyncio.Task[None]


class _Failure(Struct):
    digest: str | None
    """What could not be made ready; none if the registry could not even tell the digest."""
    retry_at: float | None
    """Point on ``time.monotonic()``; none if only another component can help."""


class Deployment:
    """Looks at the registry when told to, prepares what is new beside what serves, and swaps.

    The serving version is replaced in one step, after its successor is compiled and loaded. A
    preparation is cancelled as soon as something newer is seen, so its result can't arrive late.
    """

    def __init__(
        self,
        path: SkillPath,
        source: ComponentSource,
        versions: Versions,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self.path = path
        self.source = source
        self._versions = versions
        self._backoff = backoff
        self._serving: Version | None = None
        self._served: Snapshot | None = None
        self._seen: Snapshot | None = None
        self._preparation: _Preparation | None = None
        self._error: KernelError | None = None
        self._failure: _Failure | None = None
        self._attempts = 0
        self._closed: KernelError | None = None
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._follow(), name=f"deployment {path}")

    # --- what others ask --------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether ``lend`` has nothing to wait for."""
        return self._serving is not None and self._serving.loaded

    @property
    def settled(self) -> bool:
        """Whether the first attempt to get a serving version has ended."""
        return self._serving is not None or (self._error is not None and not self._preparation)

    def info(self) -> SkillInfo:
        preparing = self._preparation.snapshot.digest if self._preparation else None
        info = SkillInfo(
            path=self.path,
            status=SkillStatus.READY if self._serving else SkillStatus.PREPARING,
            updating_to=preparing if self._serving else None,
            error=self._error.problem() if self._error else None,
        )
        if self._serving and self._serving.info and self._served:
            info.kind = SkillKind(self._serving.info.kind)
            info.wit_version = self._serving.info.wit_version
            info.digest = self._serving.digest
            info.size = self._served.size
        elif self.settled:
            info.status = SkillStatus.FAILED
        return info

    async def lend(self) -> Loan:
        """The version that serves now, loaded, for one run; waits while the first one is being
        prepared.

        Raises the reason if there is none to wait for.
        """
        version = await self._ready()
        try:
            return await self._versions.lend(version, self.source.read)
        except ContentChanged:
            self.check()
            raise SkillNotReady(
                "A new version of the skill is being read.", retry_after=1.0
            ) from None

    async def _ready(self) -> Version:
        while self._serving is None:
            if self._closed:
                raise fresh(self._closed)
            if self._error and not self._preparation:
                raise fresh(self._error)
            await self._news.wait()
        return self._serving

    # --- what others tell -------------------------------------------------------------------------

    def check(self) -> None:
        """Something may have changed in the registry."""
        self._wake.set()

    def retarget(self, source: ComponentSource) -> None:
        """Serve another component from now on; the old one serves until the new one is ready."""
        self.source = source
        self._cancel_preparation()
        self._look_afresh()

    def evict(self) -> bool:
        """Unload the component and read it again; false if it was not loaded."""
        evicted = self._serving is not None and self._versions.evict(self._serving)
        self._look_afresh()
        return evicted

    def close(self, reason: KernelError) -> None:
        """Stop serving; whoever waits gets ``reason``. Runs in flight finish."""
        self._closed = reason
        self._cancel_preparation()
        self.task.cancel()
        if self._serving:
            self._versions.release(self._serving)
            self._serving = None
        self._announce()

    # --- following the registry -------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            self._wake.clear()
            source = self.source
            try:
                await self._look(source)
            except Exception as error:
                if source is self.source:
                    self._cancel_preparation()
                    self._fail(None, error)
            await self._rest()

    async def _rest(self) -> None:
        retry_at = self._failure.retry_at if self._failure else None
        pause = None if retry_at is None else max(0.0, retry_at - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    async def _look(self, source: ComponentSource) -> None:
        """Find out what the registry has, and prepare it if it is new."""
        seen = self._seen
        if seen is None or await source.changed(seen):
            seen = await source.snapshot()
        if source is self.source and not self._closed:
            self._seen = seen
            self._aim_at(seen)

    def _aim_at(self, wanted: Snapshot) -> None:
        if self._preparation and self._preparation.snapshot.digest == wanted.digest:
            return
        self._cancel_preparation()
        if self._serving and self._serving.digest == wanted.digest:
            self._succeed()
        elif not self._is_hopeless(wanted):
            self._failure = None
            task = asyncio.create_task(self._prepare(self.source, wanted))
            self._preparation = _Preparation(wanted, task)

    def _is_hopeless(self, wanted: Snapshot) -> bool:
        failure = self._failure
        if failure is None or failure.digest != wanted.digest:
            return False
        return failure.retry_at is None or time.monotonic() < failure.retry_at

    async def _prepare(self, source: ComponentSource, wanted: Snapshot) -> None:
        try:
            version = await self._versions.acquire(wanted.digest, source.read)
        except ContentChanged:
            self._preparation = None
            self._look_afresh()
        except Exception as error:
            still = await self._still_wanted(source, wanted)
            self._preparation = None
            if still:
                self._fail(wanted.digest, error)
                self._wake.set()  # so that the pause before the next attempt begins
            else:
                self._look_afresh()
        else:
            self._swap(version, wanted)

    async def _still_wanted(self, source: ComponentSource, wanted: Snapshot) -> bool:
        """Whether a failure is worth telling: half-written files fail, and are complete a moment
        later.
        """
        try:
            return (await source.snapshot()).digest == wanted.digest
        except Exception:
            return True

    def _swap(self, version: Version, snapshot: Snapshot) -> None:
        old, self._serving = self._serving, version
        self._served = snapshot
        self._preparation = None
        if old:
            self._versions.release(old)
        logger.info("Skill %s serves %s", self.path, version.digest)
        self._succeed()

    # --- keeping the record -----------------------------------------------------------------------

    def _succeed(self) -> None:
        self._error = self._failure = None
        self._attempts = 0
        self._announce()

    def _fail(self, digest: str | None, error: Exception) -> None:
        if not isinstance(error, KernelError):
            logger.error("Preparing skill %s failed unexpectedly", self.path, exc_info=error)
            error = SkillUnavailable(
                "The kernel failed to prepare the skill; its log has the reason."
            )
        pause = self._backoff.pause(self._attempts)
        self._attempts += 1
        if self._error is None or self._error.detail != error.detail:
            serving = "the old version keeps serving" if self._serving else "it can't run"
            logger.error("Skill %s: %s (%s): %s", self.path, error.title, serving, error.detail)
        self._failure = _Failure(digest, time.monotonic() + pause if error.retryable else None)
        self._error = fresh(error)
        self._announce()

    def _look_afresh(self) -> None:
        self._seen = None
        self._failure = None
        self._attempts = 0
        self._wake.set()

    def _cancel_preparation(self) -> None:
        if self._preparation:
            self._preparation.task.cancel()
            self._preparation = None

    def _announce(self) -> None:
        """Wake everybody who waits for a version."""
        self._news.set()
        self._news = asyncio.Event()
