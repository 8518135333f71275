"""The engine as the skills layer sees it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Raw, Struct


class ComponentKind(StrEnum):
    """Which world of ``pharia:skill`` a component exports."""

    FUNCTION = "function"
    MESSAGE_STREAM = "message_stream"


class EmbeddedMetadata(Struct, frozen=True):
    """What a component says of itself in a custom section (``engine.embedded``)."""

    description: str | None = None
    input_schema: Raw = Raw(b"null")
    """JSON that should be a JSON Schema, but nobody has checked; ``null`` if there is none."""
    output_schema: Raw = Raw(b"null")


class ComponentInfo(Struct, frozen=True):
    """What a component says of itself in its imports, exports and custom sections."""

    kind: ComponentKind
    wit_version: str
    """Exported package version, such as ``0.3.11``."""
    sandboxed: bool = True
    """False for a source that runs as a plain process (``pharia-kernel dev``)."""
    embedded: EmbeddedMetadata | None = None

    @property
    def line(self) -> str:
        """The WIT line: ``0.2``, ``0.3``, ``0.4`` or ``0.5``."""
        return self.wit_version.rpartition(".")[0]


class Artifact(Struct, frozen=True):
    """Machine code of one component on disk, written by this kernel's compiler."""

    digest: str
    """``sha256:`` and 64 hexadecimal digits of the component's bytes."""
    path: Path
    size: int
    """Bytes of the artifact file."""
    info: ComponentInfo


class Compiler(Protocol):
    """Turns components into artifacts; answers from its disk cache where it can."""

    async def compile(self, digest: str, wasm: bytes) -> Artifact:
        """Inspect and compile; single-flight per digest; bounded jobs, time and memory.

        Raises a ``SkillLoadError`` (not a component, no such world, too old, too new, unsatisfied
        import, does not compile). Cancelling the last waiter kills the compiler process.
        """
        ...

    async def cached(self, digest: str) -> Artifact | None:
        """The verified artifact, if the cache holds it. Takes milliseconds, never compiles."""
        ...

    async def discard(self, digest: str) -> None:
        """Forget a cached artifact that the engines can't load after all, such as one that was
        compiled on a machine with another processor."""
        ...


class BeginAttributes(Struct, frozen=True):
    role: str | None = None


class MessageBeginItem(Struct, frozen=True, tag="message-begin", array_like=True):
    attributes: BeginAttributes


class MessageAppendItem(Struct, frozen=True, tag="message-append", array_like=True):
    text: str


class MessageEndItem(Struct, frozen=True, tag="message-end", array_like=True):
    payload: bytes | None


class ReasoningItem(Struct, frozen=True, tag="reasoning", array_like=True):
    text: str


StreamItem = MessageBeginItem | MessageAppendItem | MessageEndItem | ReasoningItem


class Host(Protocol):
    """The kernel's side of one run. Its methods are only called while the run is alive."""

    async def call(self, function: str, args: bytes) -> bytes:
        """A system call.

        ``function`` is the import's name, such as ``pharia:skill/inference@0.4.0#chat``; ``args``
        is a msgpack array of the arguments (record -> map with the WIT names, variant -> [case,
        payload], enum -> string, list<u8> -> bytes, option -> value or nil, result -> ["ok" |
        "err", value]); the answer is the msgpack of the result in the same form. A ``KernelError``
        ends the run with that error.
        """
        ...

    def emit(self, item: StreamItem, consumed: Callable[[], None]) -> None:
        """The guest wrote a stream item. ``consumed`` must be called once the item has left the
        kernel: it makes room in the guest's window. A ``KernelError`` ends the run with that
        error."""
        ...

    def output(self, channel: Literal["stdout", "stderr"], data: bytes) -> None:
        """Bytes that the guest printed, bounded by the engine; may split characters and lines."""
        ...


class Returned(Struct, frozen=True):
    """The guest returned normally."""

    value: bytes
    """``run``: output bytes; ``stream``: empty; ``metadata``: see ``GuestMetadata``."""


class Refused(Struct, frozen=True):
    """The guest returned an error of its own."""

    kind: Literal["internal", "invalid-input"]
    message: str


class GuestMetadata(Struct, frozen=True):
    """Answer of the guest's ``metadata`` export (lines 0.3 and newer, function skills only)."""

    description: str | None
    input_schema: bytes
    output_schema: bytes


class EnginePool(Protocol):
    async def load(self, artifact: Artifact) -> None:
        """Map the artifact in every engine; idempotent. Raises ``SkillLoadError`` if it can't be
        used.

        Engines that are restarted later load it again by themselves.
        """
        ...

    async def unload(self, digest: str) -> None:
        """Forget the component. Runs in flight finish."""
        ...

    async def run(
        self,
        artifact: Artifact,
        input: bytes,
        host: Host,
        *,
        deadline: float,
        memory_limit: int | None = None,
    ) -> Returned | Refused:
        """Run a function skill, or a message-stream skill (by the artifact's kind), in a fresh
        instance.

        ``deadline`` is a point on ``time.monotonic()``; after it the guest is dropped and
        ``RunTimedOut`` raised. ``memory_limit`` in bytes lowers the one that holds for all guests.
        Also raises ``Overloaded``, ``EngineLost``, ``SkillCrashed`` and its kin,
        ``SkillQuarantined``, or what ``host`` raised. Cancelling the call drops the guest.
        """
        ...

    async def metadata(self, artifact: Artifact, host: Host, *, deadline: float) -> GuestMetadata:
        """Call the guest's ``metadata``; only for function skills of line 0.3 and newer."""
        ...


class Engines(EnginePool, Protocol):
    """A pool that the kernel starts, watches and closes."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def statistics(self) -> dict[str, Any]:
        """``ready``, ``queued`` and ``queue_capacity`` (runs), and ``engines`` (an object each) at
        least."""
        ...

    def active_runs(self) -> int: ...
