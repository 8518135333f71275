"""``pharia:skill`` 0.4 and 0.5: tool calls, reasoning and response formats in chats; no
explanations."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Raw

from pharia_kernel.csi import types
from pharia_kernel.csi.lines import common, v03
from pharia_kernel.csi.lines.common import Case, Distribution, Logprobs, Shape, TokenUsage
from pharia_kernel.csi.lines.function import NEXT, Function, call, named, opened

if TYPE_CHECKING:
    from pharia_kernel.csi.guest import GuestCalls


class ToolCall(Shape):
    id: str
    name: str
    arguments: str


class AssistantMessage(Shape):
    content: str | None
    reasoning_content: str | None
    tool_calls: list[ToolCall] | None


class ToolMessage(Shape):
    content: str
    tool_call_id: str


class OtherMessage(Shape):
    role: str
    content: str


class Assistant(Case, tag="assistant"):
    value: AssistantMessage


class FromTool(Case, tag="tool"):
    value: ToolMessage


class Other(Case, tag="other"):
    value: OtherMessage


class FunctionShape(Shape):
    name: str
    description: str | None
    parameters: bytes | None
    strict: bool | None


class NoTool(Case, tag="none"):
    pass


class AutoTool(Case, tag="auto"):
    pass


class RequiredTool(Case, tag="required"):
    pass


class NamedTool(Case, tag="named"):
    value: str


class JsonSchema(Shape):
    description: str | None
    name: str
    schema: bytes | None
    strict: bool | None


class TextFormat(Case, tag="text"):
    pass


class JsonObjectFormat(Case, tag="json-object"):
    pass


class JsonSchemaFormat(Case, tag="json-schema"):
    value: JsonSchema


class ChatParams(Shape):
    max_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logprobs: Logprobs
    tools: list[FunctionShape] | None
    tool_choice: NoTool | AutoTool | RequiredTool | NamedTool | None
    parallel_tool_calls: bool | None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None


class ChatRequest(Shape):
    model: str
    messages: list[Assistant | FromTool | Other]
    params: ChatParams


class ChatResponse(Shape):
    message: AssistantMessage
    finish_reason: str
    logprobs: list[Distribution]
    usage: TokenUsage


class MessageAppend(Shape):
    content: str


class ToolCallChunk(Shape):
    index: int
    id: str | None
    name: str | None
    arguments: str | None


def _message(message: Assistant | FromTool | Other) -> types.Message:
    match message:
        case Assistant(value):
            calls = value.tool_calls
            return types.Message(
                role="assistant",
                content=value.content,
                reasoning_content=value.reasoning_content,
                tool_calls=None
                if calls is None
                else [types.ToolCall(c.id, c.name, c.arguments) for c in calls],
            )
        case FromTool(tool):
            return types.Message(role="tool", content=tool.content, tool_call_id=tool.tool_call_id)
        case Other(other):
            return types.Message(role=other.role, content=other.content)


def _raw(value: bytes | None) -> Raw | None:
    return None if value is None else Raw(value)


def _tool_choice(
    choice: NoTool | AutoTool | RequiredTool | NamedTool | None,
) -> types.ToolChoice | None:
    match choice:
        case None:
            return None
        case NamedTool(name):
            return types.NamedTool(name)
        case NoTool():
            return "none"
        case AutoTool():
            return "auto"
        case RequiredTool():
            return "required"


def _response_format(
    format_: TextFormat | JsonObjectFormat | JsonSchemaFormat | None,
) -> types.ResponseFormat | None:
    match format_:
        case None:
            return None
        case TextFormat():
            return "text"
        case JsonObjectFormat():
            return "json_object"
        case JsonSchemaFormat(schema):
            return types.JsonSchemaFormat(
                types.JsonSchema(
                    name=schema.name,
                    description=schema.description,
                    schema=_raw(schema.schema),
                    strict=schema.strict,
                )
            )


def _chat_params(params: ChatParams) -> types.ChatParams:
    tools = params.tools
    return types.ChatParams(
        max_tokens=params.max_tokens,
        max_completion_tokens=params.max_completion_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        logprobs=common.logprobs(params.logprobs),
        tools=None
        if tools is None
        else [
            types.Function(
                name=tool.name,
                description=tool.description,
                parameters=_raw(tool.parameters),
                strict=tool.strict,
            )
            for tool in tools
        ],
        tool_choice=_tool_choice(params.tool_choice),
        parallel_tool_calls=params.parallel_tool_calls,
        response_format=_response_format(params.response_format),
        reasoning_effort=params.reasoning_effort,
    )


def _chat_request(request: ChatRequest) -> types.ChatRequest:
    return types.ChatRequest(
        request.model,
        [_message(message) for message in request.messages],
        _chat_params(request.params),
    )


def _chat_response(response: types.ChatResponse) -> ChatResponse:
    message = response.message
    calls = message.tool_calls
    return ChatResponse(
        AssistantMessage(
            message.content,
            message.reasoning_content,
            None if calls is None else [ToolCall(c.id, c.name, c.arguments) for c in calls],
        ),
        common.finish_reason(response.finish_reason),
        common.distributions(response.logprobs),
        common.usage(response.usage),
    )


def _chat_event(event: types.ChatEvent) -> list[Any]:
    match event:
        case types.MessageBegin(role):
            return ["message-begin", role]
        case types.Reasoning(content):
            return ["reasoning", content]
        case types.MessageAppend(content):
            return ["message-append", MessageAppend(content)]
        case types.MessageEnd(reason):
            return ["message-end", common.finish_reason(reason)]
        case types.UsageEvent(value):
            return ["usage", common.usage(value)]
        case types.ToolCallDelta(chunks):
            return [
                "tool-call",
                [
                    ToolCallChunk(
                        common.u32(c.index, "the index of a tool call"), c.id, c.name, c.arguments
                    )
                    for c in chunks
                ],
            ]


async def chat(guest: GuestCalls, requests: list[ChatRequest]) -> list[ChatResponse]:
    responses = await guest.csi.chat(
        [_chat_request(request) for request in requests], guest.context, split_reasoning=True
    )
    return [_chat_response(response) for response in responses]


def completion_stream(
    guest: GuestCalls, request: v03.CompletionRequestV2
) -> AsyncGenerator[types.CompletionEvent, None]:
    return guest.csi.completion_stream(v03.completion_request(request), guest.context)


def chat_stream(guest: GuestCalls, request: ChatRequest) -> AsyncGenerator[types.ChatEvent, None]:
    return guest.csi.chat_stream(_chat_request(request), guest.context, split_reasoning=True)


def functions(line: str) -> dict[str, Function]:
    """``line`` is ``0.4`` or ``0.5``: the same but for the version."""
    return named(
        line,
        {
            **common.interfaces(),
            "inference": {
                "complete": call(v03.complete, list[v03.CompletionRequestV2]),
                "chat": call(chat, list[ChatRequest]),
                "[constructor]completion-stream": opened(
                    completion_stream, common.completion_event, v03.CompletionRequestV2
                ),
                "[method]completion-stream.next": NEXT,
                "[constructor]chat-stream": opened(chat_stream, _chat_event, ChatRequest),
                "[method]chat-stream.next": NEXT,
            },
        },
    )
