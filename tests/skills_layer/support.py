"""An engine and a compiler in memory, to control the order of things and to inject faults.

The bytes of a "component" are text: ``function:anything``, ``stream:anything`` or anything else,
which does not compile. What a component does is a Python coroutine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from msgspec import Struct

from pharia_kernel.csi.api import Csi, ToolEvent
from pharia_kernel.csi.types import CallContext
from pharia_kernel.engine.api import (
    Artifact,
    ComponentInfo,
    ComponentKind,
    EmbeddedMetadata,
    GuestMetadata,
    Host,
    Refused,
    Returned,
)
from pharia_kernel.errors import CsiUseFromMetadata, KernelError, NotAComponent, RunTimedOut
from pharia_kernel.skills.deployment import Pace
from pharia_kernel.skills.hosted import HostedSkill
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.runtime import SkillRuntime
from pharia_kernel.skills.store import FIRST_PASS_LIMIT, WARM_UP_LIMIT, SkillStore
from pharia_kernel.skills.types import Caller, NamespaceStatus, SkillInfo

PATIENCE = 30.0
"""Seconds after which a test fails instead of waiting on."""
CALLER = Caller(token="secret", trace_headers={"traceparent": "00-1-2-01"})

Guest = Callable[[bytes, Host], Awaitable[Returned | Refused]]


def digest_of(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


async def eventually(condition: Callable[[], Any]) -> None:
    """Let others work until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (conditions of any kind have no event)
            await asyncio.sleep(0.001)


class MemoryCompiler:
    """Implements ``engine.api.Compiler``; compiling waits for the component's gate, if it has
    one.
    """

    def __init__(self, wit_version: str = "0.3.11", size: int = 100) -> None:
        self.wit_version = wit_version
        self.size = size
        self.compiled: Counter[str] = Counter()
        self.cancelled: list[str] = []
        self.started: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.faults: dict[str, Exception] = {}
        self.texts: dict[str, str] = {}
        self.embedded: dict[str, EmbeddedMetadata] = {}
        self.artifacts: dict[str, Artifact] = {}

    async def compile(self, digest: str, wasm: bytes) -> Artifact:
        text = wasm.decode()
        assert digest == digest_of(text), "compiled other bytes than those of the digest"
        self.texts[digest] = text
        self.started.append(text)
        try:
            if gate := self.gates.get(text):
                await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        if fault := self.faults.get(text):
            raise fault
        kind, _, _ = text.partition(":")
        if kind not in {"function", "stream"}:
            raise NotAComponent(f"`{text}` is not a component.")
        self.compiled[text] += 1
        component = ComponentKind.FUNCTION if kind == "function" else ComponentKind.MESSAGE_STREAM
        info = ComponentInfo(component, self.wit_version, embedded=self.embedded.get(text))
        self.artifacts[digest] = Artifact(digest, Path("artifact"), self.size, info)
        return self.artifacts[digest]

    async def cached(self, digest: str) -> Artifact | None:
        return self.artifacts.get(digest)

    async def discard(self, digest: str) -> None:
        self.artifacts.pop(digest, None)


class MemoryPool:
    """Implements ``engine.api.EnginePool``; a component without a guest answers with its own
    text.
    """

    def __init__(self, compiler: MemoryCompiler) -> None:
        self._compiler = compiler
        self.loaded: set[str] = set()
        self.loads: Counter[str] = Counter()
        self.unloads: Counter[str] = Counter()
        self.load_gate: asyncio.Event | None = None
        self.load_faults: list[Exception] = []
        self.guests: dict[str, Guest] = {}
        self.metadata_answers: dict[str, Callable[[Host], Awaitable[GuestMetadata]]] = {}
        self.metadata_calls: Counter[str] = Counter()
        self.active: Counter[str] = Counter()
        self.memory_limits: list[int | None] = []
        """Of the runs, in the order in which they began."""

    async def load(self, artifact: Artifact) -> None:
        text = self._compiler.texts[artifact.digest]
        self.loads[text] += 1
        if self.load_gate:
            await self.load_gate.wait()
        if self.load_faults:
            raise self.load_faults.pop(0)
        self.loaded.add(text)

    async def unload(self, digest: str) -> None:
        text = self._compiler.texts[digest]
        assert not self.active[text], "unloaded while a run was in flight"
        self.unloads[text] += 1
        self.loaded.discard(text)

    async def run(
        self,
        artifact: Artifact,
        input: bytes,
        host: Host,
        *,
        deadline: float,
        memory_limit: int | None = None,
    ) -> Returned | Refused:
        self.memory_limits.append(memory_limit)
        text = self._compiler.texts[artifact.digest]
        assert text in self.loaded, f"run of {text}, which is not loaded"
        self.active[text] += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await self.guests.get(text, self._tell_name(text))(input, host)
        except TimeoutError:
            raise RunTimedOut("too long") from None
        finally:
            self.active[text] -= 1

    async def metadata(self, artifact: Artifact, host: Host, *, deadline: float) -> GuestMetadata:
        text = self._compiler.texts[artifact.digest]
        self.metadata_calls[text] += 1
        return await self.metadata_answers[text](host)

    def _tell_name(self, text: str) -> Guest:
        async def guest(input: bytes, host: Host) -> Returned:
            await asyncio.sleep(0)
            return Returned(json.dumps(text).encode())

        return guest


class MemoryCalls:
    """Implements ``runtime.SystemCalls``: ``tool:<name>`` makes tool events, the rest echoes."""

    opened: ClassVar[list[MemoryCalls]] = []

    def __init__(
        self,
        csi: Csi,
        context: CallContext,
        *,
        on_tool_event: Callable[[ToolEvent], None] | None,
        metadata: bool = False,
    ) -> None:
        self.context = context
        self.closed = False
        self._on_tool_event = on_tool_event or (lambda _: None)
        self._metadata = metadata
        self.opened.append(self)

    async def call(self, function: str, args: bytes) -> bytes:
        if self._metadata:
            raise CsiUseFromMetadata(f"The metadata function called `{function}`.")
        kind, _, name = function.partition(":")
        if kind == "tool":
            self._on_tool_event(ToolEvent(name))
            self._on_tool_event(ToolEvent(name, done=True))
        if kind == "broken-tool":
            self._on_tool_event(ToolEvent(name))
            self._on_tool_event(ToolEvent(name, done=True, error="Out of cheese."))
        return args

    async def close(self) -> None:
        self.closed = True


class Settings(Struct, kw_only=True):
    run_timeout: float = PATIENCE
    max_runs_per_skill: int = 1000
    validate_input: bool = False


class Kernel:
    """The skills layer over the doubles."""

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        builtin: dict[SkillPath, HostedSkill] | None = None,
        csi: Any = None,
        wit_version: str = "0.3.11",
        cache_size: int = 1 << 30,
        pace: Pace | None = None,
        first_pass_limit: float = FIRST_PASS_LIMIT,
        warm_up_limit: float = WARM_UP_LIMIT,
        namespace_statuses: Callable[[], list[NamespaceStatus]] = list,
    ) -> None:
        self.refreshed: list[str] = []
        self.compiler = MemoryCompiler(wit_version)
        self.pool = MemoryPool(self.compiler)
        self.store = SkillStore(
            self.compiler,
            self.pool,
            cache_size=cache_size,
            builtin=builtin,
            pace=pace or Pace(first_pause=0.01, longest_pause=0.02),
            first_pass_limit=first_pass_limit,
            warm_up_limit=warm_up_limit,
        )
        self.runtime = SkillRuntime(
            self.store,
            self.pool,
            csi,
            settings or Settings(),
            system_calls=MemoryCalls,
            tools=lambda namespace: [{"name": namespace}],
            mcp_servers=lambda namespace: None,
            components={"engines": lambda: {"ready": True}},
            namespace_statuses=namespace_statuses,
            refresh_namespace=lambda namespace: self.refreshed.append(namespace),
        )

    async def run(self, path: str, body: bytes = b"null") -> Any:
        return json.loads(await self.runtime.run(parse(path), body, CALLER))

    def info(self, path: str) -> SkillInfo:
        return next(info for info in self.store.list() if str(info.path) == path)

    async def close(self) -> None:
        await self.runtime.close()
        await self.store.close()


@asynccontextmanager
async def kernel(**options: Any) -> AsyncGenerator[Kernel, None]:
    MemoryCalls.opened = []
    made = Kernel(**options)
    try:
        yield made
    finally:
        await made.close()


def parse(path: str) -> SkillPath:
    namespace, _, name = path.partition("/")
    return SkillPath.parse(namespace, name)


async def error_of(work: Awaitable[Any]) -> KernelError:
    try:
        await work
    except KernelError as error:
        return error
    raise AssertionError("nothing was raised")
