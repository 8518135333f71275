"""``pharia:skill`` 0.3: batches, streams, log probabilities, explanations; messages are role and
content."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from pharia_kernel.csi import types
from pharia_kernel.csi.lines import common
from pharia_kernel.csi.lines.common import Distribution, Logprobs, Shape, TokenUsage
from pharia_kernel.csi.lines.function import NEXT, Function, call, named, opened
from pharia_kernel.csi.streams import ending_with_usage

if TYPE_CHECKING:
    from pharia_kernel.csi.guest import GuestCalls


class CompletionParams(Shape):
    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    stop: list[str]
    return_special_tokens: bool
    frequency_penalty: float | None
    presence_penalty: float | None
    logprobs: Logprobs


class CompletionParamsV2(CompletionParams):
    echo: bool


class CompletionRequest(Shape):
    model: str
    prompt: str
    params: CompletionParams


class CompletionRequestV2(Shape):
    model: str
    prompt: str
    params: CompletionParamsV2


class Message(Shape):
    role: str
    content: str


class ChatParams(Shape):
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logprobs: Logprobs


class ChatRequest(Shape):
    model: str
    messages: list[Message]
    params: ChatParams


class ChatResponse(Shape):
    message: Message
    finish_reason: str
    logprobs: list[Distribution]
    usage: TokenUsage


class MessageAppend(Shape):
    content: str
    logprobs: list[Distribution]


class ExplanationRequest(Shape):
    prompt: str
    target: str
    model: str
    granularity: common.Granularity


class TextScore(Shape):
    start: int
    length: int
    score: float


def completion_request(
    request: CompletionRequest | CompletionRequestV2,
) -> types.CompletionRequest:
    params = request.params
    return types.CompletionRequest(
        request.model,
        request.prompt,
        types.CompletionParams(
            return_special_tokens=params.return_special_tokens,
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            stop=params.stop,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            logprobs=common.logprobs(params.logprobs),
            echo=isinstance(params, CompletionParamsV2) and params.echo,
        ),
    )


def _message(message: Message) -> types.Message:
    role = message.role
    return types.Message(
        role="assistant" if role.lower() == "assistant" else role, content=message.content
    )


def _chat_request(request: ChatRequest) -> types.ChatRequest:
    params = request.params
    return types.ChatRequest(
        request.model,
        [_message(message) for message in request.messages],
        types.ChatParams(
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            logprobs=common.logprobs(params.logprobs),
        ),
    )


def _chat_response(response: types.ChatResponse) -> ChatResponse:
    return ChatResponse(
        Message(response.message.role, response.message.content or ""),
        common.finish_reason_without_tools(response.finish_reason),
        common.distributions(response.logprobs),
        common.usage(response.usage),
    )


def _chat_event(event: types.ChatEvent) -> list[Any]:
    match event:
        case types.MessageBegin(role):
            return ["message-begin", role]
        case types.MessageAppend(content, logprobs):
            return ["message-append", MessageAppend(content, common.distributions(logprobs))]
        case types.MessageEnd(reason):
            return ["message-end", common.finish_reason_without_tools(reason)]
        case types.UsageEvent(value):
            return ["usage", common.usage(value)]
        case types.ToolCallDelta():
            raise common.unexpected_tool_call()
        case types.Reasoning():
            raise AssertionError("reasoning was told apart without having been asked for")


async def complete(
    guest: GuestCalls, requests: list[CompletionRequest] | list[CompletionRequestV2]
) -> list[common.CompletionResult]:
    completions = await guest.csi.complete(
        [completion_request(request) for request in requests], guest.context
    )
    return [common.completion(completion) for completion in completions]


def completion_stream(
    guest: GuestCalls, request: CompletionRequest
) -> AsyncGenerator[types.CompletionEvent, None]:
    return ending_with_usage(
        guest.csi.completion_stream(completion_request(request), guest.context)
    )


async def chat(guest: GuestCalls, requests: list[ChatRequest]) -> list[ChatResponse]:
    responses = await guest.csi.chat(
        [_chat_request(request) for request in requests], guest.context, split_reasoning=False
    )
    return [_chat_response(response) for response in responses]


def chat_stream(guest: GuestCalls, request: ChatRequest) -> AsyncGenerator[types.ChatEvent, None]:
    return ending_with_usage(
        guest.csi.chat_stream(_chat_request(request), guest.context, split_reasoning=False)
    )


async def explain(guest: GuestCalls, requests: list[ExplanationRequest]) -> list[list[TextScore]]:
    explanations = await guest.csi.explain(
        [types.ExplanationRequest(r.prompt, r.target, r.model, r.granularity) for r in requests],
        guest.context,
    )
    return [[TextScore(s.start, s.length, s.score) for s in scores] for scores in explanations]


def functions() -> dict[str, Function]:
    return named(
        "0.3",
        {
            **common.interfaces(),
            "inference": {
                "complete": call(complete, list[CompletionRequest]),
                "complete-v2": call(complete, list[CompletionRequestV2]),
                "chat": call(chat, list[ChatRequest]),
                "explain": call(explain, list[ExplanationRequest]),
                "[constructor]completion-stream": opened(
                    completion_stream, common.completion_event, CompletionRequest
                ),
                "[method]completion-stream.next": NEXT,
                "[constructor]chat-stream": opened(chat_stream, _chat_event, ChatRequest),
                "[method]chat-stream.next": NEXT,
            },
        },
    )
