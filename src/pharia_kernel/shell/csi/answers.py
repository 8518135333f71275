"""Answers and stream events of the CSI, where their JSON differs from ``csi.types``.

The order of the members is part of the contract.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

from pharia_kernel.csi import types
from pharia_kernel.csi.types import U8, FinishReason, Usage
from pharia_kernel.shell import sse

# --- inference ------------------------------------------------------------------------------------


class Logprob(Struct):
    token: list[U8]
    """The token's bytes; not always valid UTF-8."""
    logprob: float | None
    """NaN is encoded as null."""


class Distribution(Struct):
    sampled: Logprob
    top: list[Logprob]


class Completion(Struct):
    text: str
    finish_reason: FinishReason
    logprobs: list[Distribution]
    usage: Usage


class MessageV1(Struct, kw_only=True):
    role: str
    content: str | None
    tool_call_id: None = None
    tool_calls: list[types.ToolCall] | None


class MessageV2(Struct, kw_only=True):
    role: str
    content: str | None
    reasoning_content: str | None
    tool_call_id: None = None
    tool_calls: list[types.ToolCall] | None


class ChatResponseV1(Struct):
    message: MessageV1
    finish_reason: FinishReason
    logprobs: list[Distribution]
    usage: Usage


class ChatResponseV2(Struct):
    message: MessageV2
    finish_reason: FinishReason
    logprobs: list[Distribution]
    usage: Usage


def distributions(values: list[types.Distribution]) -> list[Distribution]:
    return [
        Distribution(_logprob(value.sampled), [_logprob(top) for top in value.top])
        for value in values
    ]


def _logprob(value: types.Logprob) -> Logprob:
    return Logprob(list(value.token), value.logprob)


def completion(value: types.Completion) -> Completion:
    return Completion(value.text, value.finish_reason, distributions(value.logprobs), value.usage)


def chat_response_v1(value: types.ChatResponse) -> ChatResponseV1:
    message = value.message
    return ChatResponseV1(
        MessageV1(role=message.role, content=message.content, tool_calls=message.tool_calls),
        value.finish_reason,
        distributions(value.logprobs),
        value.usage,
    )


def chat_response_v2(value: types.ChatResponse) -> ChatResponseV2:
    message = value.message
    return ChatResponseV2(
        MessageV2(
            role=message.role,
            content=message.content,
            reasoning_content=message.reasoning_content,
            tool_calls=message.tool_calls,
        ),
        value.finish_reason,
        distributions(value.logprobs),
        value.usage,
    )


# --- streams --------------------------------------------------------------------------------------


def frame(event: types.ChatEvent | types.CompletionEvent) -> bytes:
    """The event as ``/csi/v1`` sends it, which is also how completions are streamed everywhere."""
    match event:
        case types.Reasoning():
            raise AssertionError("reasoning was told apart without having been asked for")
        case types.MessageAppend(content, logprobs):
            return sse.named_frame(
                "message_append", {"content": content, "logprobs": distributions(logprobs)}
            )
        case types.CompletionAppend(text, logprobs):
            return sse.named_frame("append", {"text": text, "logprobs": distributions(logprobs)})
        case _:
            return _plain_frame(event)


def frame_v2(event: types.ChatEvent) -> bytes:
    """The event as ``/csi/v2/chat_stream`` sends it."""
    if isinstance(event, types.MessageAppend):
        return sse.named_frame("message_append", {"content": event.content})
    return _plain_frame(event)


def _plain_frame(event: types.ChatEvent | types.CompletionEvent) -> bytes:
    name: Any = event.__struct_config__.tag
    return sse.named_frame(name, asdict(event))


# --- the legacy route -----------------------------------------------------------------------------


class PlainMessage(Struct):
    role: str
    content: str


class PlainChatResponse(Struct):
    message: PlainMessage
    finish_reason: FinishReason
    logprobs: list[Distribution]
    usage: Usage


class BareCompletion(Struct):
    text: str
    finish_reason: FinishReason


class BareChatResponse(Struct):
    message: PlainMessage
    finish_reason: FinishReason


class BareSearchResult(Struct):
    document_path: types.DocumentPath
    content: str
    score: float


Language = Literal["eng", "deu"]
