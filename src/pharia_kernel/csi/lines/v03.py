"""``pharia:skill`` 0.3: batches, streams, log probabilities, explanations; messages are role and
content."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from pharia_kernel.csi import types
from pharia_kernel.csi.lines import common
from pharia_kernel.csi.lines.common import Distribution, Logprobs, Shape, TokenUsage
from pharia_kernel.csi.lines.function import Function, call, named, next_of, opened
from pharia_kernel.csi.lines.v02 import finish_reason

if TYPE_CHECKING:
    from pharia_kernel.csi.guest import GuestCalls


E = TypeVar("E")


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
    echo: bool = False
    """Only in ``completion-params-v2``."""


class CompletionRequest(Shape):
    model: str
    prompt: str
    params: CompletionParams


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


def completion_request(request: CompletionRequest) -> types.CompletionRequest:
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
            echo=params.echo,
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
        finish_reason(response.finish_reason),
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
            return ["message-end", finish_reason(reason)]
        case types.UsageEvent(value):
            return ["usage", common.usage(value)]
        case _:
            # Without split reasoning the driver sends no reasoning, and without tools no calls of
            # them.
            raise AssertionError(f"{event} on the path of older callers")


async def complete(
    guest: GuestCalls, requests: list[CompletionRequest]
) -> list[common.CompletionResult]:
    completions = await guest.csi.complete(
        [completion_request(request) for request in requests], guest.context
    )
    return [common.completion(completion) for completion in completions]


async def _ending_with_usage(
    source: AsyncGenerator[E, None],
) -> AsyncGenerator[E | types.UsageEvent, None]:
    """Where the backend tells no usage, say zero: the published SDK fails on a stream without
    usage."""
    told = False
    async with aclosing(source) as events:
        async for event in events:
            told = told or isinstance(event, types.UsageEvent)
            yield event
    if not told:
        yield types.UsageEvent(types.Usage(0, 0))


def completion_stream(guest: GuestCalls, handle: int, request: CompletionRequest) -> None:
    source = guest.csi.completion_stream(completion_request(request), guest.context)
    guest.open_stream(handle, _ending_with_usage(source))


async def chat(guest: GuestCalls, requests: list[ChatRequest]) -> list[ChatResponse]:
    responses = await guest.csi.chat(
        [_chat_request(request) for request in requests], guest.context, split_reasoning=False
    )
    return [_chat_response(response) for response in responses]


def chat_stream(guest: GuestCalls, handle: int, request: ChatRequest) -> None:
    source = guest.csi.chat_stream(_chat_request(request), guest.context, split_reasoning=False)
    guest.open_stream(handle, _ending_with_usage(source))


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
                "complete-v2": call(complete, list[CompletionRequest]),
                "chat": call(chat, list[ChatRequest]),
                "explain": call(explain, list[ExplanationRequest]),
                "[constructor]completion-stream": opened(completion_stream, CompletionRequest),
                "[method]completion-stream.next": next_of(common.completion_event),
                "[constructor]chat-stream": opened(chat_stream, ChatRequest),
                "[method]chat-stream.next": next_of(_chat_event),
            },
        },
    )
