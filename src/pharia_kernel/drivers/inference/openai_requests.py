"""Bodies of requests to OpenAI-compatible servers."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from pharia_kernel.csi.types import (
    ChatParams,
    ChatRequest,
    CompletionParams,
    Function,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    NamedTool,
    ReasoningEffort,
    ResponseFormat,
    ToolCall,
    ToolChoice,
    TopLogprobs,
)
from pharia_kernel.errors import InvalidCsiRequest

_INSTRUCTION_ROLES = ("system", "developer", "user")


class _CalledFunction(Struct):
    name: str
    arguments: str


class _WireToolCall(Struct):
    id: str
    function: _CalledFunction
    type: Literal["function"] = "function"


class _WireMessage(Struct, omit_defaults=True):
    role: str
    content: str | None = None
    tool_calls: list[_WireToolCall] | None = None
    tool_call_id: str | None = None


class _WireFunction(Struct, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: Raw | None = None
    strict: bool | None = None


class _WireTool(Struct):
    function: _WireFunction
    type: Literal["function"] = "function"


class _WireSchema(Struct, omit_defaults=True):
    name: str
    description: str | None = None
    schema: Raw | None = None
    strict: bool | None = None


class StreamOptions(Struct):
    include_usage: bool = True


class _ChatBody(Struct, omit_defaults=True, kw_only=True):
    model: str
    messages: list[_WireMessage]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[_WireTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: ReasoningEffort | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


_encoder = msgspec.json.Encoder()


def encode_chat(request: ChatRequest, *, stream: bool) -> bytes:
    """JSON of ``POST /chat/completions``; raises ``InvalidCsiRequest`` for what can't be asked."""
    params = request.params
    check_numbers(params)
    top = params.logprobs.top if isinstance(params.logprobs, TopLogprobs) else 0
    body = _ChatBody(
        model=request.model,
        messages=[_message(message, place) for place, message in enumerate(request.messages)],
        max_tokens=params.max_tokens,
        max_completion_tokens=params.max_completion_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        logprobs=None if params.logprobs == "no" else True,
        # Left out rather than 0: some servers take 0 for "no log probabilities at all".
        top_logprobs=top or None,
        # An empty list means the same as none, but is refused by servers.
        tools=[_tool(function) for function in params.tools] if params.tools else None,
        tool_choice=_tool_choice(params.tool_choice),
        parallel_tool_calls=params.parallel_tool_calls,
        response_format=_response_format(params.response_format),
        reasoning_effort=params.reasoning_effort,
        stream=True if stream else None,
        stream_options=StreamOptions() if stream else None,
    )
    try:
        return _encoder.encode(body)
    except UnicodeEncodeError as error:
        raise InvalidCsiRequest("The chat request holds text that is not valid Unicode.") from error


def check_numbers(params: ChatParams | CompletionParams) -> None:
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        value = getattr(params, name)
        if value is not None and not math.isfinite(value):
            raise InvalidCsiRequest(f"`{name}` is {value}; it must be a finite number.")


def _message(message: Message, place: int) -> _WireMessage:
    role = message.role.lower()
    if role == "assistant":
        calls = [_tool_call(call) for call in message.tool_calls or []]
        return _WireMessage(role=role, content=message.content, tool_calls=calls or None)
    if role != "tool" and role not in _INSTRUCTION_ROLES:
        raise InvalidCsiRequest(
            f"Message {place} has the unsupported role `{message.role[:100]}`: "
            "use `system`, `developer`, `user`, `assistant` or `tool`."
        )
    if message.content is None:
        raise InvalidCsiRequest(f"Message {place} of role `{role}` has no content.")
    if role != "tool":
        return _WireMessage(role=role, content=message.content)
    if message.tool_call_id:
        return _WireMessage(role=role, content=message.content, tool_call_id=message.tool_call_id)
    # Skills whose tool protocol is prompt text send results without an id. Servers refuse those.
    return _WireMessage(role="user", content=message.content)


def _tool_call(call: ToolCall) -> _WireToolCall:
    return _WireToolCall(call.id, _CalledFunction(call.name, call.arguments))


def _tool(function: Function) -> _WireTool:
    parameters = _checked_json(
        function.parameters, f"`parameters` of the function `{function.name}`"
    )
    return _WireTool(
        _WireFunction(function.name, function.description, parameters, function.strict)
    )


def _tool_choice(choice: ToolChoice | None) -> str | dict[str, Any] | None:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.named}}
    return choice


def _response_format(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    if isinstance(wanted, JsonSchemaFormat):
        return {"type": "json_schema", "json_schema": _schema(wanted.json_schema)}
    return {"type": wanted}


def _schema(schema: JsonSchema) -> _WireSchema:
    raw = _checked_json(schema.schema, f"`schema` of the response format `{schema.name}`")
    return _WireSchema(schema.name, schema.description, raw, schema.strict)


def _checked_json(raw: Raw | None, where: str) -> Raw | None:
    """Guests hand over bytes; embedded unchecked, they could rewrite the rest of the request."""
    if raw is None:
        return None
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidCsiRequest(f"{where} is not valid JSON: {error}") from error
    return raw
