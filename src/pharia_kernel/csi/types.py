"""Requests and results of the system calls.

One internal model serves every WIT line and the HTTP routes. Field names and enum values are those
of the JSON in ``/csi/v2``; the WIT lines map their own shapes to these (``csi/lines``).
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Raw, Struct

U8 = Annotated[int, Meta(ge=0, le=2**8 - 1)]
U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
"""Checked where a request is decoded; the numbers of the WIT lines fit by their types."""


class CallContext(Struct, frozen=True, kw_only=True):
    """What a driver may know about who is calling."""

    token: str | None = None
    """The caller's bearer token, without the scheme."""
    namespace: str | None = None
    skill: str | None = None
    """``namespace/name``; none when the call came over HTTP."""
    run_id: str | None = None
    deadline: float | None = None
    """Point on ``time.monotonic()`` after which nobody waits for the answer; none means no
    limit."""
    trace_headers: dict[str, str] = {}
    """W3C trace context to send upstream."""
    allowed_tools: frozenset[str] | None = None
    """The only tools of the namespace that exist for the skill; none: all of them."""

    def allows_tool(self, name: str) -> bool:
        return self.allowed_tools is None or name in self.allowed_tools

    def remaining(self) -> float | None:
        """Seconds until the deadline, never below zero."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"


class Logprob(Struct):
    token: bytes
    """The token's bytes; not always valid UTF-8."""
    logprob: float
    """Natural logarithm of the probability; NaN where the backend has none (echo's first token)."""


class Distribution(Struct):
    sampled: Logprob
    top: list[Logprob]


class TopLogprobs(Struct, forbid_unknown_fields=True):
    top: U8
    """How many of the most likely tokens to return beside the sampled one, 0 to 255."""


LogprobsChoice = Literal["no", "sampled"] | TopLogprobs


class Usage(Struct):
    prompt: int
    completion: int


# --- chat -----------------------------------------------------------------------------------------


class ToolCall(Struct):
    id: str
    name: str
    arguments: str
    """JSON text exactly as the model wrote it; it may be invalid."""


class Message(Struct, kw_only=True):
    role: str
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Function(Struct, kw_only=True):
    name: str
    description: str | None = None
    parameters: Raw | None = None
    """JSON Schema as raw JSON."""
    strict: bool | None = None


class NamedTool(Struct):
    named: str


class JsonSchema(Struct, kw_only=True):
    name: str
    description: str | None = None
    schema: Raw | None = None
    """JSON Schema as raw JSON."""
    strict: bool | None = None


class JsonSchemaFormat(Struct):
    json_schema: JsonSchema


ToolChoice = Literal["none", "auto", "required"] | NamedTool
ResponseFormat = Literal["text", "json_object"] | JsonSchemaFormat
ReasoningEffort = Literal["minimal", "low", "medium", "high"]


class ChatParams(Struct, kw_only=True):
    max_tokens: U32 | None = None
    max_completion_tokens: U32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: LogprobsChoice = "no"
    tools: list[Function] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None


class ChatRequest(Struct):
    model: str
    messages: list[Message]
    params: ChatParams


class ChatResponse(Struct):
    message: Message
    finish_reason: FinishReason
    logprobs: list[Distribution]
    usage: Usage


class MessageBegin(Struct, tag="message_begin", tag_field="event"):
    role: str


class Reasoning(Struct, tag="reasoning", tag_field="event"):
    content: str


class MessageAppend(Struct, tag="message_append", tag_field="event"):
    content: str
    logprobs: list[Distribution]


class ToolCallChunk(Struct):
    index: int
    id: str | None = None
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Struct, tag="tool_call", tag_field="event"):
    tool_calls: list[ToolCallChunk]


class MessageEnd(Struct, tag="message_end", tag_field="event"):
    finish_reason: FinishReason


class UsageEvent(Struct, tag="usage", tag_field="event"):
    usage: Usage


ChatEvent = MessageBegin | Reasoning | MessageAppend | ToolCallDelta | MessageEnd | UsageEvent


# --- completion -----------------------------------------------------------------------------------


class CompletionParams(Struct, kw_only=True):
    return_special_tokens: bool = False
    max_tokens: U32 | None = None
    temperature: float | None = None
    top_k: U32 | None = None
    top_p: float | None = None
    stop: list[str] = []
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: LogprobsChoice = "no"
    echo: bool = False


class CompletionRequest(Struct):
    model: str
    prompt: str
    params: CompletionParams


class Completion(Struct):
    text: str
    finish_reason: FinishReason
    logprobs: list[Distribution]
    usage: Usage


class CompletionAppend(Struct, tag="append", tag_field="event"):
    text: str
    logprobs: list[Distribution]


class CompletionEnd(Struct, tag="end", tag_field="event"):
    finish_reason: FinishReason


CompletionEvent = CompletionAppend | CompletionEnd | UsageEvent


class ExplanationRequest(Struct):
    prompt: str
    target: str
    model: str
    granularity: Literal["auto", "word", "sentence", "paragraph"]


class TextScore(Struct):
    start: int
    length: int
    score: float


# --- chunking and language ------------------------------------------------------------------------


class ChunkParams(Struct):
    model: str
    max_tokens: U32
    overlap: U32 = 0


class ChunkRequest(Struct):
    text: str
    params: ChunkParams
    character_offsets: bool = False


class Chunk(Struct):
    text: str
    byte_offset: int
    character_offset: int | None


class SelectLanguageRequest(Struct):
    text: str
    languages: list[str]
    """ISO 639-3 codes."""


# --- document index -------------------------------------------------------------------------------


class IndexPath(Struct):
    namespace: str
    collection: str
    index: str


class DocumentPath(Struct):
    namespace: str
    collection: str
    name: str


class TextCursor(Struct):
    item: int
    position: int
    """Character (Unicode scalar value) in the item, inclusive."""


class MetadataCondition(Struct, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """A field and exactly one condition on it."""

    field: str
    greater_than: float | None = None
    greater_than_or_equal_to: float | None = None
    less_than: float | None = None
    less_than_or_equal_to: float | None = None
    after: str | None = None
    at_or_after: str | None = None
    before: str | None = None
    at_or_before: str | None = None
    equal_to: str | bool | int | None = None
    is_null: Literal[True] | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(given) != 2:  # the field's name is one of them
            conditions = ", ".join(given[1:]) or "none"
            raise ValueError(f"A metadata filter takes exactly one condition, not {conditions}")


class FilterItem(Struct):
    metadata: MetadataCondition


class SearchFilter(
    Struct, omit_defaults=True, kw_only=True, forbid_unknown_fields=True, rename={"with_": "with"}
):
    """Exactly one of the three: none of, at least one of, all of."""

    without: list[FilterItem] | None = None
    with_one_of: list[FilterItem] | None = None
    with_: list[FilterItem] | None = None

    def __post_init__(self) -> None:
        if sum(items is not None for items in (self.without, self.with_one_of, self.with_)) != 1:
            raise ValueError("A filter is exactly one of `without`, `with_one_of` and `with`")


class SearchRequest(Struct, kw_only=True):
    index_path: IndexPath
    query: str
    max_results: U32
    min_score: float | None = None
    filters: list[SearchFilter] = []


class SearchResult(Struct):
    document_path: DocumentPath
    content: str
    score: float
    start: TextCursor
    end: TextCursor


class TextModality(Struct, tag="text", tag_field="modality"):
    text: str


class ImageModality(Struct, tag="image", tag_field="modality"):
    pass


class Document(Struct):
    path: DocumentPath
    contents: list[TextModality | ImageModality]
    metadata: Raw | None


# --- tools ----------------------------------------------------------------------------------------


class Argument(Struct):
    name: str
    value: Raw


class InvokeRequest(Struct):
    name: str
    arguments: list[Argument]


class TextOutput(Struct, tag="text", tag_field="type"):
    text: str


class Tool(Struct):
    name: str
    description: str
    input_schema: Raw
