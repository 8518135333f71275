"""Bodies of CSI requests, where they differ from ``csi.types``, and how bodies are decoded.

What has an obvious default may be left out although the first clients always send it. Unknown
members are ignored, except where a filter would then mean something else.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from pharia_kernel.csi import types
from pharia_kernel.csi.types import U32
from pharia_kernel.errors import InvalidCsiRequest, InvalidJson
from pharia_kernel.skills.paths import NAMESPACE_MAX_LENGTH, NAMESPACE_PATTERN

T = TypeVar("T")

Namespace = Annotated[
    # To Python, `$` is also the place before a line break at the end.
    str, Meta(pattern=NAMESPACE_PATTERN + r"(?!\n)", max_length=NAMESPACE_MAX_LENGTH)
]


# --- chat -----------------------------------------------------------------------------------------


class Message(Struct, kw_only=True):
    """Only an assistant's message may lack `content`."""

    role: str
    content: str | None = None
    reasoning_content: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[types.ToolCall] | None = None

    def __post_init__(self) -> None:
        if self.content is None and self.role.lower() != "assistant":
            raise ValueError(f"A message of role `{self.role[:100]}` needs `content`")


class Function(Struct, kw_only=True):
    """A tool that the model may call."""

    name: str
    description: str | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None


class ToolName(Struct):
    """The model must call this tool. The published SDK calls the member `name`."""

    named: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if (self.named is None) == (self.name is None):
            raise ValueError("The tool to call is given by `named`")


class JsonSchema(Struct, kw_only=True):
    """The answer is JSON of this schema."""

    name: str
    description: str | None = None
    schema: Raw | UnsetType = UNSET
    strict: bool | None = None


class StructuredFormat(Struct, kw_only=True):
    """A `json_schema`. The published SDK sends the members of that object directly."""

    json_schema: JsonSchema | None = None
    name: str | None = None
    description: str | None = None
    schema: Raw | UnsetType = UNSET
    strict: bool | None = None

    def __post_init__(self) -> None:
        if (self.json_schema is None) == (self.name is None):
            raise ValueError("The format is given by `json_schema`, which has a `name`")


class ChatParams(Struct, kw_only=True):
    max_tokens: U32 | None = None
    max_completion_tokens: U32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: types.LogprobsChoice = "no"
    tools: list[Function] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolName | None = None
    parallel_tool_calls: bool | None = None
    response_format: Literal["text", "json_object"] | StructuredFormat | None = None
    reasoning_effort: types.ReasoningEffort | None = None


class ChatRequest(Struct):
    model: str
    messages: list[Message]
    params: ChatParams


def chat_request(request: ChatRequest) -> types.ChatRequest:
    return types.ChatRequest(
        request.model,
        [_message(message) for message in request.messages],
        _chat_params(request.params),
    )


def _message(message: Message) -> types.Message:
    return types.Message(
        role=message.role,
        content=message.content,
        reasoning_content=message.reasoning_content,
        tool_calls=message.tool_calls,
        tool_call_id=message.tool_call_id,
    )


def _chat_params(params: ChatParams) -> types.ChatParams:
    return types.ChatParams(
        max_tokens=params.max_tokens,
        max_completion_tokens=params.max_completion_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        logprobs=params.logprobs,
        tools=None if params.tools is None else [_function(tool) for tool in params.tools],
        tool_choice=_tool_choice(params.tool_choice),
        parallel_tool_calls=params.parallel_tool_calls,
        response_format=_response_format(params.response_format),
        reasoning_effort=params.reasoning_effort,
    )


def _function(function: Function) -> types.Function:
    return types.Function(
        name=function.name,
        description=function.description,
        parameters=_given(function.parameters),
        strict=function.strict,
    )


def _tool_choice(
    choice: Literal["none", "auto", "required"] | ToolName | None,
) -> types.ToolChoice | None:
    if isinstance(choice, ToolName):
        return types.NamedTool(choice.named or choice.name or "")
    return choice


def _response_format(
    wanted: Literal["text", "json_object"] | StructuredFormat | None,
) -> types.ResponseFormat | None:
    if not isinstance(wanted, StructuredFormat):
        return wanted
    schema = wanted.json_schema or wanted
    return types.JsonSchemaFormat(
        types.JsonSchema(
            name=schema.name or "",
            description=schema.description,
            schema=_given(schema.schema),
            strict=schema.strict,
        )
    )


def _given(value: Raw | UnsetType) -> Raw | None:
    return None if isinstance(value, UnsetType) or bytes(value) == b"null" else value


# --- chunking -------------------------------------------------------------------------------------


class TextOnlyChunkRequest(Struct):
    text: str
    params: types.ChunkParams


# --- tools ----------------------------------------------------------------------------------------


class InvokeToolBody(Struct):
    namespace: Namespace
    """The namespace whose tools they are."""
    requests: list[types.InvokeRequest]


class ListToolsBody(Struct):
    namespace: Namespace


# --- decoding -------------------------------------------------------------------------------------

_VIOLATION = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_MEMBER = re.compile(r"Object (?:missing required|contains unknown) field `(\w+)`")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body, which is known to be JSON. Raises ``InvalidCsiRequest`` that points to what has the
    wrong shape; ``InvalidJson`` if it holds text that is not Unicode."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(*_located(str(error))) from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise InvalidJson(f"The body is not valid JSON: {reason}.") from None


def invalid(message: str, pointer: str) -> InvalidCsiRequest:
    """``pointer`` is a JSON Pointer (RFC 6901) to what is wrong in the body."""
    where = f"at `{pointer}`" if pointer else "in the whole body"
    errors: list[dict[str, Any]] = [{"path": pointer, "message": message}]
    detail = f"The request has the wrong shape: {message}, {where}."
    return InvalidCsiRequest(detail, errors=errors)


def _located(violation: str) -> tuple[str, str]:
    match = _VIOLATION.fullmatch(violation)
    assert match is not None
    message, path = match[1], match[2] or ""
    pointer = "".join(f"/{name or index}" for name, index in _STEP.findall(path))
    member = _MEMBER.fullmatch(message)
    return message, f"{pointer}/{member[1]}" if member else pointer
