"""One version of one skill on its way: found, made ready, serving, retired."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager

from pharia_kernel.errors import KernelError
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.registry.base import Snapshot, Verifier
from pharia_kernel.skills.types import VersionRecord, VersionState
from pharia_kernel.skills.versions import Progress

logger = logging.getLogger("pharia_kernel.deployments")
"""Deploy events: what was done is in the message, to what is in the extra fields."""

_SKIPPED_IF_CACHED = frozenset({VersionState.PULLED, VersionState.COMPILED})


class Attempt:
    """Knows how far its version has come, and logs what operators want to know of it.

    Signatures are checked before anything is pulled, because they vouch for the digest; the version
    counts as verified once its bytes turned out to have that digest.
    """

    def __init__(
        self,
        path: SkillPath,
        snapshot: Snapshot,
        tag: str,
        verifier: Verifier | None,
        generation: int,
        attempts: int = 1,
    ) -> None:
        self.path = path
        self.snapshot = snapshot
        self.verifier = verifier
        """Who had to accept it."""
        self.signed_by: str | None = None
        self.generation = generation
        self.attempts = attempts
        self.error: KernelError | None = None
        self._tag = tag
        self._found = time.time()
        self._progress = Progress()
        self._verifying: float | None = None
        """Seconds that checking the signature took."""
        self._end: tuple[VersionState, float] | None = None
        """The state after being ready, and since when."""
        self._served = False

    # --- what happened ----------------------------------------------------------------------------

    def watch(self, progress: Progress) -> None:
        """The version's bytes and code are from now on the business of somebody who tells."""
        self._progress = progress

    @contextmanager
    def verifying(self) -> Generator[None, None, None]:
        self._progress.aim = VersionState.VERIFIED
        began = time.monotonic()
        yield
        self._verifying = time.monotonic() - began

    def serve(self) -> None:
        self._served = True
        self._enter(VersionState.SERVING)
        self._log("Skill version serves", seconds=time.time() - self._found)

    def retire(self, *, quietly: bool = False) -> None:
        served = time.time() - self._end[1] if self._end else 0.0
        self._enter(VersionState.RETIRED)
        if not quietly:
            self._log("Skill version is retired", seconds=served)

    def discard(self, *, quietly: bool = False) -> None:
        self._enter(VersionState.DISCARDED)
        if not quietly:
            self._log("Skill version is discarded before it could serve")

    def fail(self, error: KernelError) -> None:
        self._enter(VersionState.FAILED)
        self.error = error

    def adopt(self, snapshot: Snapshot, verifier: Verifier | None) -> None:
        """The registry now has these very bytes like this, and nothing of it has to be checked."""
        self.snapshot = snapshot
        self.verifier = verifier
        if verifier is None:
            self.signed_by = None

    # --- what can be asked ------------------------------------------------------------------------

    @property
    def state(self) -> VersionState:
        if self._end:
            return self._end[0]
        return self._under_way

    @property
    def since(self) -> float:
        """When it got into its state, in Unix seconds."""
        if self._end:
            return self._end[1]
        return self._found if self._under_way is VersionState.FOUND else self._progress.since

    @property
    def failed_at(self) -> VersionState | None:
        return self._progress.aim if self.state is VersionState.FAILED else None

    @property
    def seconds(self) -> dict[VersionState, float]:
        """In the order of the states."""
        seconds = dict(self._progress.seconds)
        if self._is_verified:
            assert self._verifying is not None
            seconds[VersionState.VERIFIED] = self._verifying
        return {state: seconds[state] for state in VersionState if state in seconds}

    def is_of(self, snapshot: Snapshot) -> bool:
        """Whether it is the version of that artifact."""
        return same_version(self.snapshot, snapshot)

    def serves(self, wanted: Snapshot, verifier: Verifier | None) -> bool:
        """Whether these bytes are what is wanted, and accepted by whom it takes."""
        if verifier is None:
            return self.snapshot.digest == wanted.digest
        return self.is_of(wanted) and self.verifier == verifier

    def record(self) -> VersionRecord:
        seconds = self.seconds
        ready = self._served or VersionState.READY in seconds
        return VersionRecord(
            digest=self.snapshot.digest,
            manifest_digest=self.snapshot.manifest_digest,
            tag=self._tag,
            generation=self.generation,
            state=self.state,
            since=self.since,
            found=self._found,
            seconds=seconds,
            cached=ready and not seconds.keys() & _SKIPPED_IF_CACHED,
            signed_by=self.signed_by,
            attempts=self.attempts,
            failed_at=self.failed_at,
            error=self.error.problem() if self.error else None,
        )

    @property
    def _under_way(self) -> VersionState:
        state = self._progress.state
        if state in (VersionState.FOUND, VersionState.PULLED) and self._is_verified:
            return VersionState.VERIFIED
        return state

    @property
    def _is_verified(self) -> bool:
        """Accepted, and its bytes are here if they had to be pulled."""
        pulling = self._progress.aim is VersionState.PULLED
        pulled = VersionState.PULLED in self._progress.seconds
        return self._verifying is not None and (pulled or not pulling)

    def _enter(self, state: VersionState) -> None:
        self._end = (state, time.time())

    def _log(self, message: str, *, seconds: float | None = None) -> None:
        logger.info(message, extra=self.facts(seconds))

    def facts(self, seconds: float | None = None) -> dict[str, object]:
        """Extra fields of a deploy event."""
        manifest = self.snapshot.manifest_digest
        return {
            "skill": str(self.path),
            "digest": self.snapshot.digest,
            **({"manifest_digest": manifest} if manifest else {}),
            "tag": self._tag,
            "generation": self.generation,
            **({} if seconds is None else {"seconds": round(seconds, 3)}),
        }


def same_version(one: Snapshot, other: Snapshot) -> bool:
    """Whether both mean the same bytes, signed in the same way."""
    return (one.digest, one.manifest_digest) == (other.digest, other.manifest_digest)
