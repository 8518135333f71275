"""One configured skill: follows its registry and serves the newest version that works."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import Context

from msgspec import Struct, field, structs

from pharia_kernel.errors import (
    KernelError,
    ShuttingDown,
    SignatureRejected,
    SkillNotReady,
    SkillUnavailable,
)
from pharia_kernel.skills.attempts import Attempt, logger, same_version
from pharia_kernel.skills.failures import fresh
from pharia_kernel.skills.metadata import brief
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.recollection import Recollection
from pharia_kernel.skills.registry.base import Blob, Registry, Snapshot, Verifier
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.types import (
    SkillDetail,
    SkillInfo,
    SkillKind,
    SkillSettings,
    SkillStatus,
    VersionState,
)
from pharia_kernel.skills.versions import ContentChanged, Loan, Version, Versions
from pharia_kernel.telemetry.loading import asking_registry

_LOCAL_PATIENCE = 5
HISTORY = 10
"""Versions of a skill that are remembered."""
_IMPATIENCE = 1.0
"""Seconds after which what served before a restart serves again for the time being."""
_LONGEST_CHASE = 5
"""How often in a row the bytes may be others than those that the registry told of."""
_OTHER_BYTES = (
    "The component's bytes don't have the digest that its registry tells: they change too often, "
    "or the registry is broken."
)


class ComponentSource(Struct, frozen=True):
    """Where a configured skill's component is, and what its namespace says about it."""

    registry: Registry
    name: str
    tag: str = "latest"
    settings: SkillSettings = SkillSettings()
    verifier: Verifier | None = None
    """Who has to accept a version before it serves."""
    recollection: Recollection | None = None
    """Of what served last, for the time in which the registry can't be asked."""

    @property
    def local(self) -> bool:
        """Whether looking costs nobody else anything."""
        return isinstance(self.registry, FileRegistry)

    def same_place(self, other: ComponentSource) -> bool:
        """Whether both mean the same component, accepted by the same verifier."""
        return structs.replace(self, settings=other.settings) == other

    async def snapshot(self) -> Snapshot:
        with asking_registry("check"):
            return await self.registry.snapshot(self.name, self.tag)

    async def changed(self, since: Snapshot) -> bool:
        with asking_registry("check"):
            return await self.registry.changed(self.name, self.tag, since)

    async def read(self) -> Blob:
        with asking_registry("read"):
            return await self.registry.read(self.name, self.tag)


class Pace(Struct, frozen=True, kw_only=True):
    """When registries are asked, and how long they may take. Seconds.

    Intervals and pauses vary by chance, so that many skills don't ask at the same moment.
    """

    interval: float = 10.0
    """Between looks at a registry that answers."""
    first_pause: float = 1.0
    """Before the second attempt of what may succeed without a change; doubled for each further."""
    longest_pause: float = 60.0
    check_limit: float = 30.0
    """For telling what a registry has."""
    verify_limit: float = 60.0

    def next_look(self, *, local: bool) -> float:
        # Files are looked at whenever their namespace is.
        interval = self.interval * (_LOCAL_PATIENCE if local else 1)
        return interval * random.uniform(0.8, 1.2)  # noqa: S311 (no secret)

    def pause(self, failures: int) -> float:
        """Before the next attempt, after so many in a row have failed."""
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)


DEFAULT_PACE = Pace()


class _Trouble(Struct):
    """Why something failed, and when it is tried again."""

    error: KernelError
    pause: float | None
    """Seconds; none if only another component can help."""
    count: int
    """How often in a row."""
    snapshot: Snapshot | None = None
    """What could not be made ready."""
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float | None:
        """Seconds until it is tried again."""
        if self.pause is None:
            return None
        return max(0.0, self.began + self.pause - time.monotonic())


class Deployment:
    """Looks at the registry again and again, prepares what is new beside what serves, and swaps.

    The serving version is replaced in one step, after its successor is compiled and loaded.
    Everything under way belongs to a generation of the skill's configuration: when that changes,
    it is cancelled, so its result can't arrive late. What failed is remembered, and costs nobody
    anything until it may be tried again.
    """

    def __init__(
        self,
        path: SkillPath,
        source: ComponentSource,
        versions: Versions,
        pace: Pace = DEFAULT_PACE,
    ) -> None:
        self.path = path
        self.source = source
        self.generation = 1
        self._versions = versions
        self._pace = pace
        self._version: Version | None = None
        self._serving: Attempt | None = None
        """Set if and only if there is a version that serves."""
        self._recalled: Snapshot | None = None
        """What served before the kernel was started, until something else is known."""
        self._kept: tuple[Recollection, Snapshot] | None = None
        """What is on disk for the next start."""
        self._keeping = asyncio.Lock()
        self._seen: Snapshot | None = None
        self._checked: float | None = None
        """When the registry last told what it has, in Unix seconds."""
        self._attempt: Attempt | None = None
        """What is being prepared, by a task of its own."""
        self._preparing: asyncio.Task[None] | None = None
        self._history: deque[Attempt] = deque(maxlen=HISTORY)
        self._unheard: _Trouble | None = None
        """Why the registry could not even tell what it has, the last time it was asked."""
        self._broken: _Trouble | None = None
        """Why the newest version that was tried can't serve."""
        self._chases = 0
        self._closed: KernelError | None = None
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self.task = self._start_following()

    # --- what others ask --------------------------------------------------------------------------

    @property
    def loaded(self) -> bool:
        """Whether ``lend`` has nothing to wait for."""
        return self._version is not None and self._version.loaded

    @property
    def settings(self) -> SkillSettings:
        return self.source.settings

    @property
    def status(self) -> SkillStatus:
        if self._version:
            return SkillStatus.READY
        return SkillStatus.FAILED if self._trouble and not self._attempt else SkillStatus.PREPARING

    @property
    def _trouble(self) -> _Trouble | None:
        return self._unheard or self._broken

    def info(self) -> SkillInfo:
        preparing = self._attempt.snapshot.digest if self._attempt else None
        trouble = self._trouble
        left = trouble.left if trouble else None
        newest = self._history[-1] if self._history else None
        info = SkillInfo(
            path=self.path,
            status=self.status,
            updating_to=preparing if self._serving else None,
            error=trouble.error.problem() if trouble else None,
            tag=self.source.tag,
            generation=self.generation,
            state=newest.state if newest else None,
            since=newest.since if newest else None,
            settings=self.source.settings,
            last_check=self._checked,
            next_attempt=None if left is None else time.time() + left,
        )
        if self._serving and self._version and self._version.info:
            info.kind = SkillKind(self._version.info.kind)
            info.wit_version = self._version.info.wit_version
            info.sandboxed = self._version.info.sandboxed
            if embedded := self._version.info.embedded:
                info.description = brief(embedded.description)
            info.digest = self._version.digest
            info.size = self._serving.snapshot.size
            info.manifest_digest = self._serving.snapshot.manifest_digest
            info.signed_by = self._serving.signed_by
        return info

    def detail(self) -> SkillDetail:
        history = [attempt.record() for attempt in reversed(self._history)]
        return SkillDetail(**structs.asdict(self.info()), history=history)

    async def lend(self) -> Loan:
        """The version that serves now, loaded, for one run; waits while the first one is being
        prepared.

        Raises the reason if there is none to wait for.
        """
        version = await self._ready()
        try:
            return await self._versions.lend(version, self.source)
        except ContentChanged:
            self.check()
            raise SkillNotReady(
                "A new version of the skill is being read.", retry_after=1.0
            ) from None

    async def _ready(self) -> Version:
        while self._version is None:
            if self._closed:
                raise fresh(self._closed)
            if (trouble := self._trouble) and not self._attempt:
                raise fresh(trouble.error)
            await self._news.wait()
        return self._version

    # --- what others tell -------------------------------------------------------------------------

    def check(self) -> None:
        """Something may have changed in the registry."""
        self._wake.set()

    def retry(self) -> None:
        """Look now, and try at once what failed, if that may succeed the next time."""
        if self._broken and self._broken.pause is not None:
            self._broken.pause = 0.0
        self.check()

    def update(self, source: ComponentSource) -> bool:
        """Follow this source from now on; false if it means the component that is followed already.

        Other settings hold for the next run. With another component or verifier, the old version
        serves until the new one is ready.
        """
        known, self.source = self.source, source
        if source.same_place(known):
            if source.local:
                self.check()
            return False
        self._begin_generation()
        return True

    def evict(self) -> bool:
        """Unload the component and read it again; false if it was not loaded."""
        evicted = self._version is not None and self._versions.evict(self._version)
        logger.info("Skill is evicted", extra={"skill": str(self.path)})
        self._begin_generation()
        return evicted

    def close(self, reason: KernelError) -> None:
        """Stop serving; whoever waits gets ``reason``. Runs in flight finish."""
        self._closed = reason
        if self.source.recollection and not self._is_shutting_down:
            self.source.recollection.forget()
        self.task.cancel()
        self._discard()
        self._withdraw()
        self._announce()

    # --- generations ------------------------------------------------------------------------------

    def _begin_generation(self) -> None:
        """Drop all that is under way and known, except for what serves."""
        self.generation += 1
        self._discard()
        self._seen = self._unheard = self._broken = None
        self._chases = 0
        self.task.cancel()
        self.task = self._start_following()

    def _start_following(self) -> asyncio.Task[None]:
        name = f"deployment {self.path}, generation {self.generation}"
        # In a context of its own: it outlives the request that evicts a skill.
        return asyncio.create_task(self._follow(), name=name, context=Context())

    # --- following the registry -------------------------------------------------------------------

    async def _follow(self) -> None:
        """Within one generation."""
        await self._recall()
        while True:
            self._wake.clear()
            timer = asyncio.get_running_loop().call_later(_IMPATIENCE, self._fall_back)
            try:
                seen = await self._look()
            except Exception as error:
                self._fall_back()
                self._fail_to_hear(error)
            else:
                self._checked = time.time()
                self._seen, self._unheard = seen, None
                self._recalled = None
                self._aim_at(seen)
                await self._keep()
            finally:
                timer.cancel()
            await self._rest()

    async def _look(self) -> Snapshot:
        """What the registry has."""
        with _time_limit("The registry did not answer"):
            async with asyncio.timeout(self._pace.check_limit):
                if self._seen is None or await self.source.changed(self._seen):
                    return await self.source.snapshot()
                return self._seen

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._next_look()):
                await self._wake.wait()

    def _next_look(self) -> float:
        # A registry that fails is left alone; one that answers may have something better.
        if self._unheard:
            return self._unheard.left or 0.0
        interval = self._pace.next_look(local=self.source.local)
        left = self._broken.left if self._broken else None
        return interval if left is None or self._attempt else min(left, interval)

    def _aim_at(self, wanted: Snapshot) -> None:
        if self._attempt and self._attempt.is_of(wanted):
            return
        self._discard()
        source = self.source
        if self._serving and self._serving.serves(wanted, source.verifier):
            self._serving.adopt(wanted, source.verifier)
            self._succeed()
        elif self._is_hopeless(wanted):
            self._announce()  # who waited for what was discarded has nothing to wait for
        else:
            self._prepare(wanted)

    def _is_hopeless(self, wanted: Snapshot) -> bool:
        broken = self._broken
        if broken is None or broken.snapshot is None or not same_version(broken.snapshot, wanted):
            return False
        return broken.left is None or broken.left > 0

    def _look_afresh(self) -> None:
        self._seen = None
        self._wake.set()

    # --- over restarts ----------------------------------------------------------------------------

    async def _recall(self) -> None:
        if self._version is None and self.source.recollection:
            self._recalled = await self.source.recollection.recall()

    def _fall_back(self) -> None:
        """The registry does not tell what it has: begin with what served before the restart."""
        recalled, self._recalled = self._recalled, None
        if recalled and not self._version and not self._attempt:
            self._prepare(recalled)

    async def _keep(self) -> None:
        """Note what serves, whatever that is once it is our turn."""
        async with self._keeping:
            recollection = self.source.recollection
            if not recollection or not self._serving or self._closed:
                return
            kept = (recollection, self._serving.snapshot)
            if kept != self._kept:
                await recollection.keep(self._serving.snapshot)
                self._kept = kept

    # --- making ready -----------------------------------------------------------------------------

    def _prepare(self, wanted: Snapshot) -> None:
        self._attempt = attempt = Attempt(
            self.path,
            wanted,
            self.source.tag,
            self.source.verifier,
            self.generation,
            self._count_attempt(wanted),
        )
        self._history.append(attempt)
        self._preparing = asyncio.create_task(self._make_ready(attempt, self.source))

    def _count_attempt(self, wanted: Snapshot) -> int:
        """Of this version in a row; only the last one stays in the history."""
        last = self._history[-1] if self._history else None
        if last is None or last.state is not VersionState.FAILED or not last.is_of(wanted):
            return 1
        if last.generation != self.generation:
            return 1
        self._history.pop()
        return last.attempts + 1

    async def _make_ready(self, attempt: Attempt, source: ComponentSource) -> None:
        try:
            await self._verify(attempt, source)
            version = await self._versions.acquire(attempt.snapshot.digest, source, attempt.watch)
        except ContentChanged:
            if attempt is self._attempt:
                self._chase(attempt)
        except Exception as error:
            if attempt is self._attempt:
                await self._give_up(attempt, source, error)
        else:
            self._swap(attempt, version)
            await self._keep()

    async def _verify(self, attempt: Attempt, source: ComponentSource) -> None:
        if source.verifier is None:
            return
        with attempt.verifying(), _time_limit("Checking the signature did not end"):
            async with asyncio.timeout(self._pace.verify_limit):
                attempt.signed_by = await source.verifier.verify(source.name, attempt.snapshot)

    def _swap(self, attempt: Attempt, version: Version) -> None:
        if attempt is not self._attempt or attempt.generation != self.generation:
            self._versions.release(version)  # it was cancelled, and came all the same
            return
        self._attempt = None
        self._withdraw()
        self._version, self._serving = version, attempt
        attempt.serve()
        self._succeed()

    def _withdraw(self) -> None:
        """Nothing serves any more."""
        if self._version and self._serving:
            self._serving.retire(quietly=self._is_shutting_down)
            self._versions.release(self._version)
        self._version = self._serving = None

    async def _give_up(self, attempt: Attempt, source: ComponentSource, error: Exception) -> None:
        if await self._still_wanted(attempt, source):
            self._fail(attempt, error)
        else:
            self._drop(attempt)
            self._look_afresh()

    async def _still_wanted(self, attempt: Attempt, source: ComponentSource) -> bool:
        """Whether a failure is worth telling: half-written files fail, and are complete a moment
        later.
        """
        try:
            async with asyncio.timeout(self._pace.check_limit):
                return attempt.is_of(await source.snapshot())
        except Exception:
            return True

    def _chase(self, attempt: Attempt) -> None:
        """The registry has other bytes by now; or it never has those that it tells of."""
        self._chases += 1
        if self._chases < _LONGEST_CHASE:
            self._drop(attempt)
            self._look_afresh()
        else:
            self._fail(attempt, SkillUnavailable(_OTHER_BYTES))

    def _drop(self, attempt: Attempt) -> None:
        self._attempt = None
        attempt.discard(quietly=self._is_shutting_down)

    def _discard(self) -> None:
        """Cancel what is being prepared."""
        if self._attempt and self._preparing:
            self._preparing.cancel()
            self._preparing = None
            self._drop(self._attempt)

    # --- keeping the record -----------------------------------------------------------------------

    @property
    def _is_shutting_down(self) -> bool:
        return isinstance(self._closed, ShuttingDown)

    def _succeed(self) -> None:
        self._broken = None
        self._chases = 0
        self._announce()

    def _fail_to_hear(self, cause: Exception) -> None:
        error = self._as_told(cause)
        count = self._unheard.count + 1 if self._unheard else 1
        # Whatever is wrong, only the registry can tell when it is over.
        trouble = _Trouble(error, self._pace.pause(count), count)
        if self._unheard is None or self._unheard.error.detail != error.detail:
            self._log_failure(error, {"skill": str(self.path), "tag": self.source.tag})
        self._unheard = trouble
        self._announce()

    def _fail(self, attempt: Attempt, cause: Exception) -> None:
        self._attempt = None
        error = self._as_told(cause)
        attempt.fail(error)
        before = self._broken
        again = before and before.snapshot and attempt.is_of(before.snapshot)
        count = before.count + 1 if before and again else 1
        pause = self._pace.pause(count) if _may_pass(error) else None
        self._broken = _Trouble(error, pause, count, attempt.snapshot)
        if isinstance(error, SignatureRejected) and not self._is_trusted():
            self._withdraw()
        if before is None or before.error.detail != error.detail:
            self._log_failure(error, attempt.facts())
        self._announce()
        self._wake.set()  # so that the pause before the next attempt begins

    def _as_told(self, error: Exception) -> KernelError:
        if isinstance(error, KernelError):
            return fresh(error)
        logger.error("Preparing skill %s failed unexpectedly", self.path, exc_info=error)
        return SkillUnavailable("The kernel failed to prepare the skill; its log has the reason.")

    def _is_trusted(self) -> bool:
        """Whether what serves was accepted by the verifier that has to accept it now."""
        return self._serving is not None and self._serving.verifier == self.source.verifier

    def _log_failure(self, error: KernelError, facts: dict[str, object]) -> None:
        serving = "it can't run"
        if self._serving:
            serving = "the old version keeps serving"
        elif self._attempt:
            serving = "the last version that was heard of is being prepared"
        facts = {**facts, "error": error.code}
        logger.error("%s (%s): %s", error.title, serving, error.detail, extra=facts)

    def _announce(self) -> None:
        """Wake everybody who waits for a version."""
        self._news.set()
        self._news = asyncio.Event()


def _may_pass(error: KernelError) -> bool:
    """Whether another attempt can succeed; signatures are often made after what they sign."""
    return error.retryable or isinstance(error, SignatureRejected)


@contextmanager
def _time_limit(what: str) -> Generator[None, None, None]:
    """Tell those who wait for it that something took too long."""
    try:
        yield
    except TimeoutError:
        raise SkillUnavailable(f"{what} in time.", retry_after=1.0) from None
