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
    """JSON of ``GET /v1/skills/{namespace}/{name}/metadata``: all five keys, always.

    It comes from the component's export for it; from its custom section where there is none.
    """

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
    """How a namespace's description is doing. Times are Unix seconds."""

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
    warnings: list[str] = []
    """What the description says that has no effect."""


class VersionState(StrEnum):
    """How far a version of a skill has come. Every version passes them in this order; what is not
    needed is skipped: machine code from the artifact cache is neither pulled nor compiled, and
    without keys or identities nothing is verified.
    """

    FOUND = "found"
    """The registry told its digest."""
    PULLED = "pulled"
    """Its bytes were read and have that digest."""
    VERIFIED = "verified"
    """Its bytes are those that somebody whom the namespace trusts has signed."""
    COMPILED = "compiled"
    READY = "ready"
    """The engines have loaded it."""
    SERVING = "serving"
    """New runs use it."""
    RETIRED = "retired"
    """It has served; runs that still use it end in peace."""
    DISCARDED = "discarded"
    """Something newer was wanted before it could serve."""
    FAILED = "failed"
    """``error`` and ``failed_at`` say why and where."""


class VersionRecord(Struct, kw_only=True):
    """One entry of a skill's history. Times are Unix seconds."""

    digest: str
    """``sha256:...`` of the component's bytes."""
    manifest_digest: str | None
    """Of the artifact's manifest, from registries that have manifests (OCI)."""
    tag: str
    generation: int
    """Of the skill's configuration when the version was found."""
    state: VersionState
    since: float
    """When it got into this state."""
    found: float
    seconds: dict[VersionState, float]
    """How long it took to get into the states that it has passed; skipped ones are not there."""
    cached: bool
    """Its machine code was there already: nothing was pulled or compiled."""
    signed_by: str | None
    attempts: int
    """How often in a row this version was tried."""
    failed_at: VersionState | None
    """The state that it could not get into."""
    error: dict[str, Any] | None
    """Problem object."""


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
    description: str | None = None
    """What the skill does, as far as that is known without asking it; the beginning, if long."""
    digest: str | None = None
    """``sha256:...`` of the serving component's bytes."""
    size: int | None = None
    """Bytes of the serving component."""
    sandboxed: bool = True
    """False for a source that runs as a plain process (``pharia-kernel dev``)."""
    updating_to: str | None = None
    """Digest that is being prepared while this one serves."""
    error: dict[str, Any] | None = None
    """Problem object of the newest version that could not be made ready."""
    tag: str | None = None
    """As configured."""
    manifest_digest: str | None = None
    """Of the serving component's artifact, from registries that have manifests (OCI)."""
    signed_by: str | None = None
    """Who signed the serving component, if the namespace asks for signatures."""
    generation: int | None = None
    """Grows whenever the skill is configured anew or evicted."""
    state: VersionState | None = None
    """Of the newest version; none if there is none yet."""
    since: float | None = None
    """When the newest version got into its state. Unix seconds."""
    settings: SkillSettings | None = None
    last_check: float | None = None
    """When the registry last told what it has. Unix seconds."""
    next_attempt: float | None = None
    """When what failed is tried again without anybody's doing; none if nothing failed, or if only
    another component can help. Unix seconds."""


class SkillDetail(SkillInfo, kw_only=True):
    """One skill in ``GET /v1/namespaces/{namespace}``."""

    history: list[VersionRecord]
    """The last ones, newest first."""


class NamespaceSummary(NamespaceStatus, kw_only=True):
    """One entry of ``GET /v1/namespaces``."""

    skill_states: dict[SkillStatus, int]
    """How many of its skills are in each state."""


class NamespaceDetail(NamespaceSummary, kw_only=True):
    """``GET /v1/namespaces/{namespace}``."""

    skills: list[SkillDetail]
    tools: list[dict[str, Any]]
    """Name, description and input schema of each."""
    mcp_servers: list[str]
    """URLs."""


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
