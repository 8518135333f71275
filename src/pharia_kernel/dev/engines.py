"""All sources that are served: compiler and engines in one, because to import is to make ready."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct, structs

from pharia_kernel.dev.engine import Described, Launch, SourceEngine
from pharia_kernel.engine import embedded
from pharia_kernel.engine.api import (
    Artifact,
    ComponentInfo,
    ComponentKind,
    GuestMetadata,
    Host,
    Refused,
    Returned,
)
from pharia_kernel.engine.process import ActiveRun, EngineSettings
from pharia_kernel.errors import (
    EngineLost,
    InvalidMetadata,
    Overloaded,
    RunTimedOut,
    SkillLoadError,
    SkillNotReady,
    SourceBroken,
)

log = logging.getLogger("pharia_kernel.dev")

MAX_RUNS = 32
"""Runs of one skill at once: each is a process."""


class Revision(Struct, frozen=True):
    """What stands in the place of a component: which source, and for the how manieth time."""

    name: str
    file: str
    number: int

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Revision:
        """Raises ``SkillLoadError``."""
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise SkillLoadError(f"This is no source: {error}.") from error


class _Metadata(Struct, rename="kebab"):
    description: str | None
    input_schema: bytes
    output_schema: bytes


class Audience(Protocol):
    """Who wants to know how sources are doing."""

    def imported(self, revision: Revision, described: Described) -> None: ...

    def broken(self, revision: Revision, described: Described | None, reason: str) -> None: ...

    def serves(self, revision: Revision) -> None: ...

    def warned(self, revision: Revision, warning: str) -> None: ...

    def hold_terminal(self, held: bool) -> None: ...


class _Source:
    def __init__(self, revision: Revision, engine: SourceEngine, artifact: Artifact) -> None:
        self.revision = revision
        self.engine = engine
        self.artifact = artifact
        self.lock = asyncio.Lock()
        """Whoever starts the process again after it died."""


class SourceEngines:
    """Implements ``engine.api.EnginePool`` and ``engine.api.Compiler``."""

    def __init__(
        self,
        settings: EngineSettings,
        launch: Launch,
        audience: Audience,
        *,
        import_timeout: float,
    ) -> None:
        self._settings = settings
        self._launch = launch
        self._audience = audience
        self._import_timeout = import_timeout
        self._sources: dict[str, _Source] = {}
        self._loaded: set[str] = set()
        self._started = 0
        self._closing: set[asyncio.Task[None]] = set()

    # --- the compiler

    async def compile(self, digest: str, wasm: bytes) -> Artifact:
        """Import the source in a process of its own. Raises ``SourceBroken``."""
        revision = Revision.decode(wasm)
        for other, source in list(self._sources.items()):
            if source.revision.name == revision.name and other not in self._loaded:
                self._close(other)  # it was imported, but overtaken before it could serve
        engine, artifact = await self._import(digest, revision)
        self._sources[digest] = _Source(revision, engine, artifact)
        return artifact

    async def cached(self, digest: str) -> Artifact | None:
        source = self._sources.get(digest)
        return source.artifact if source else None

    async def discard(self, digest: str) -> None:
        self._close(digest)

    async def _import(self, digest: str, revision: Revision) -> tuple[SourceEngine, Artifact]:
        self._started += 1
        engine = SourceEngine(
            self._started,
            self._settings,
            revision.name,
            self._launch,
            self._audience.hold_terminal,
            partial(self._audience.warned, revision),
        )
        try:
            await engine.start()
            return engine, await self._load(engine, digest, revision)
        except (EngineLost, OSError) as error:
            reason = f"{self._launch.python} can't be started. Is it Python 3.11 or newer?"
            self._audience.broken(revision, None, reason)
            raise SourceBroken(reason) from error
        except BaseException:
            self._end(engine)
            raise

    async def _load(self, engine: SourceEngine, digest: str, revision: Revision) -> Artifact:
        unknown = ComponentInfo(ComponentKind.FUNCTION, "0.0.0", sandboxed=False)
        reason: str | None
        try:
            async with asyncio.timeout(self._import_timeout):
                reason = await engine.load(Artifact(digest, Path(revision.file), 0, unknown))
        except TimeoutError:
            reason = (
                f"{revision.file}: importing it took more than {self._import_timeout:g} s. Work "
                "belongs in the skill's function, not at the top of the module"
            )
        if reason is None and engine.lost.done():
            reason = f"{revision.file}: importing it ended Python itself; see what it printed"
        described = engine.described
        if reason is not None or described is None:
            self._audience.broken(revision, described, reason or "nothing was found in it")
            raise SourceBroken(f"The source can't be imported. {reason}")
        self._audience.imported(revision, described)
        return Artifact(digest, Path(revision.file), 0, _info(revision, described))

    # --- the pool

    async def load(self, artifact: Artifact) -> None:
        source = self._sources.get(artifact.digest)
        if source is None:
            raise SkillLoadError("The source has changed since it was imported.")
        self._loaded.add(artifact.digest)
        self._audience.serves(source.revision)

    async def unload(self, digest: str) -> None:
        self._loaded.discard(digest)
        self._close(digest)

    async def run(
        self,
        artifact: Artifact,
        input: bytes,
        host: Host,
        *,
        deadline: float,
        memory_limit: int | None = None,
    ) -> Returned | Refused:
        return await self._invoke(artifact, "run", input, host, deadline, memory_limit)

    async def metadata(self, artifact: Artifact, host: Host, *, deadline: float) -> GuestMetadata:
        outcome = await self._invoke(artifact, "metadata", b"", host, deadline, None)
        if isinstance(outcome, Refused):  # the export has no error case
            raise InvalidMetadata(f"The skill can't describe itself: {outcome.message}")
        wire = msgspec.msgpack.decode(outcome.value, type=_Metadata)
        return GuestMetadata(wire.description, wire.input_schema, wire.output_schema)

    async def _invoke(
        self,
        artifact: Artifact,
        entry: Literal["run", "metadata"],
        input: bytes,
        host: Host,
        deadline: float,
        memory_limit: int | None,
    ) -> Returned | Refused:
        engine = await self._living(artifact)
        if len(engine.runs) >= MAX_RUNS:
            raise Overloaded(
                f"The skill has {MAX_RUNS} runs, which is the limit in development.",
                retry_after=1.0,
            )
        run = engine.begin(artifact, entry, input, host, memory_limit)
        timer = asyncio.get_running_loop().call_later(
            max(0.0, deadline - time.monotonic()), _time_out, run
        )
        try:
            return await run.outcome
        finally:
            timer.cancel()
            engine.cancel(run)

    async def _living(self, artifact: Artifact) -> SourceEngine:
        """The process, started again if it has died."""
        source = self._sources.get(artifact.digest)
        if source is None:
            raise SkillNotReady("The skill is not loaded.", retry_after=1.0)
        async with source.lock:
            if source.engine.lost.done():
                source.engine, source.artifact = await self._import(
                    artifact.digest, source.revision
                )
        return source.engine

    def _close(self, digest: str) -> None:
        source = self._sources.pop(digest, None)
        if source:
            self._end(source.engine)

    def _end(self, engine: SourceEngine) -> None:
        """In the background."""
        task = asyncio.create_task(engine.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    # --- life, and what operators see

    async def start(self) -> None:
        """Processes are started as sources are imported."""

    async def close(self) -> None:
        for digest in list(self._sources):
            self._close(digest)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def active_runs(self) -> int:
        return sum(len(source.engine.runs) for source in self._sources.values())

    def statistics(self) -> dict[str, Any]:
        """As of ``engine.pool.Pool``: an engine per source."""
        return {
            "ready": True,
            "engines": [
                {
                    "pid": source.engine.pid,
                    "ready": not source.engine.lost.done(),
                    "runs": len(source.engine.runs),
                }
                for source in self._sources.values()
            ],
            "queued": 0,
            "queue_capacity": 0,
            "restarts": 0,
            "components": len(self._sources),
            "quarantined": {},
        }


def _info(revision: Revision, described: Described) -> ComponentInfo:
    """What the kernel would read from the component of the source."""
    kind = ComponentKind(str(described.kind))
    info = ComponentInfo(kind, str(described.wit_version), sandboxed=False)
    if described.section is None:
        return info
    try:
        return structs.replace(info, embedded=embedded.parse(described.section, kind))
    except embedded.UselessMetadata as error:
        log.warning("What %s says of itself is ignored: %s", revision.name, error)
        return info


def _time_out(run: ActiveRun) -> None:
    run.fail(RunTimedOut("The run did not end within its time limit (`run-timeout`)."))
