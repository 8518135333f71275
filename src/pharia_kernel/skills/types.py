"""What the skills layer tells the shell."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from msgspec import Raw, Struct

from pharia_kernel.skills.paths import SkillPath


class SkillKind(StrEnum):
    FUNCTION = "function"
    MESSAGE_STREAM = "message_stream"


class SkillType(StrEnum):
    """What the namespace's description says that the skill is."""

    PROGRAMMABLE = "programmable"
    """A component."""
    CHAT = "chat"
    """A model with a system prompt, without code."""


class Caller(Struct, frozen=True, kw_only=True):
    """Who asked for a run."""

    token: str | None = None
    """Bearer token without the scheme."""
    trace_headers: dict[str, str] = {}


class SkillMetadata(Struct):
    """JSON of ``GET /v1/skills/{namespace}/{name}/metadata``: all five keys, always."""

    description: str | None
    version: str | None
    """The WIT line, such as ``0.3``; none for lines without metadata (0.2)."""
    skill_type: SkillKind
    input_schema: Raw | None
    output_schema: Raw | None


class SkillSettings(Struct, frozen=True, kw_only=True):
    """What a namespace says about the runs of one skill; none: the kernel's own setting."""

    run_timeout: float | None = None
    """Seconds; never more than the kernel allows."""
    memory_limit: int | None = None
    """Bytes of one run; never more than the kernel allows."""
    max_runs: int | None = None
    """Runs at once; never more than the kernel allows."""
    allowed_tools: tuple[str, ...] | None = None
    """Names of the namespace's tools that the skill may list and call; none: all of them."""


class NamespaceState(StrEnum):
    UNREAD = "unread"
    """Nothing is known yet."""
    OK = "ok"
    """The newest description is in effect."""
    STALE = "stale"
    """The newest attempt failed; the last good description is in effect. ``error`` says why."""
    BROKEN = "broken"
    """There is no usable description, so no skills. ``error`` says why."""


class NamespaceStatus(Struct, kw_only=True):
    """One entry of ``GET /v1/namespaces``. Times are Unix seconds."""

    name: str
    state: NamespaceState
    form: str
    """The key that tells the form of the namespace: ``directory``, ``skills`` or ``config-url``."""
    source: str
    """Where the description is, without credentials."""
    generation: int
    """Grows with every description that comes into effect."""
    last_attempt: float | None = None
    last_success: float | None = None
    next_attempt: float | None = None
    error: dict[str, Any] | None = None
    """Problem object; with ``line`` and ``column`` if a place in the description is to blame."""


class SkillStatus(StrEnum):
    PREPARING = "preparing"
    """Being read, compiled or loaded; no version can serve yet."""
    READY = "ready"
    FAILED = "failed"
    """No version can serve; ``error`` says why."""


class SkillInfo(Struct, kw_only=True):
    """One entry of ``GET /v1/skills?detail=true``."""

    path: SkillPath
    status: SkillStatus
    type: SkillType = SkillType.PROGRAMMABLE
    kind: SkillKind | None = None
    wit_version: str | None = None
    """Full package version that the serving component exports, such as ``0.3.11``."""
    digest: str | None = None
    """``sha256:...`` of the serving component's bytes."""
    size: int | None = None
    """Bytes of the serving component."""
    updating_to: str | None = None
    """Digest that is being prepared while this one serves."""
    error: dict[str, Any] | None = None
    """Problem object of the newest version that could not be made ready."""


# --- events of a message stream; field order is the order of the keys on the wire -----------------


class MessageBegin(Struct, tag="begin"):
    pass


class MessageAppend(Struct, tag="append"):
    text: str


class MessageEnd(Struct, tag="end"):
    payload: Raw = Raw(b"null")
    """JSON."""


class Reasoning(Struct, tag="reasoning"):
    text: str


class ToolBegin(Struct, tag="begin"):
    name: str


class ToolEnd(Struct, tag="end"):
    name: str


class ToolError(Struct, tag="error"):
    name: str
    message: str


StreamEvent = (
    MessageBegin | MessageAppend | MessageEnd | Reasoning | ToolBegin | ToolEnd | ToolError
)

SseEventName = Literal["message", "reasoning", "tool"]


def sse_event_name(event: StreamEvent) -> SseEventName:
    match event:
        case Reasoning():
            return "reasoning"
        case ToolBegin() | ToolEnd() | ToolError():
            return "tool"
        case _:
            return "message"
