"""Answers of OpenAI-compatible servers, read leniently: only what is used must make sense."""

from __future__ import annotations

import logging
import math
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from pharia_kernel.csi.types import (
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Distribution,
    FinishReason,
    Logprob,
    LogprobsChoice,
    Message,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    ToolCall,
    ToolCallChunk,
    ToolCallDelta,
    TopLogprobs,
    Usage,
    UsageEvent,
)
from pharia_kernel.drivers.inference.openai_errors import Asked, parse_problem, to_error
from pharia_kernel.drivers.inference.reasoning import Piece, ThinkParser, split_reasoning
from pharia_kernel.drivers.inference.sse import ServerSentEvent
from pharia_kernel.errors import BadUpstreamAnswer, CsiError, EmptyContent, UnexpectedToolCall

log = logging.getLogger("pharia_kernel.inference")

T = TypeVar("T")

_FINISH_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}


class _WireLogprob(Struct):
    token: str = ""
    logprob: float | None = None
    bytes: list[Annotated[int, Meta(ge=0, le=255)]] | None = None


class WireDistribution(_WireLogprob):
    top_logprobs: list[_WireLogprob] | None = None


class _WireLogprobs(Struct):
    content: list[WireDistribution] | None = None


class _WireFunction(Struct):
    name: str | None = None
    arguments: str | None = None


class _WireToolCall(Struct):
    index: int | None = None
    id: str | None = None
    function: _WireFunction | None = None


class _WireMessage(Struct):
    """A whole message, or what a chunk adds to it."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_WireToolCall] | None = None

    def separate_reasoning(self) -> str | None:
        return self.reasoning_content or self.reasoning or None


class WireUsage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def usage(self) -> Usage:
        return Usage(prompt=self.prompt_tokens or 0, completion=self.completion_tokens or 0)


class _Choice(Struct):
    index: int | None = None
    message: _WireMessage | None = None
    finish_reason: str | None = None
    logprobs: _WireLogprobs | None = None


class _ChunkChoice(Struct):
    index: int | None = None
    delta: _WireMessage | None = None
    finish_reason: str | None = None
    logprobs: _WireLogprobs | None = None


class _Body(Struct):
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None


class _Chunk(Struct):
    choices: list[_ChunkChoice] | None = None
    usage: WireUsage | None = None
    error: Any = None


_body_decoder = msgspec.json.Decoder(_Body)
_chunk_decoder = msgspec.json.Decoder(_Chunk)


def decode_chat(
    body: bytes, request: ChatRequest, asked: Asked, *, split_reasoning: bool
) -> ChatResponse:
    """The answer to a chat request that was not streamed; usage is zero if the server tells none.

    Raises ``BadUpstreamAnswer``, or the error that the server reports in place of an answer.
    """
    answer = decode_answer(_body_decoder, body, asked)
    choice = first_choice(answer.choices) if answer.error is None else None
    if choice is None or choice.message is None:
        raise error_in(body, asked) or BadUpstreamAnswer(
            "The inference backend's answer has no choice."
        )
    reason = finish_reason(choice.finish_reason)
    if reason is None:
        raise BadUpstreamAnswer("The inference backend's answer has no finish reason.")
    response = ChatResponse(
        message=_message(choice.message, split=split_reasoning),
        finish_reason=reason,
        logprobs=_distributions(choice.logprobs, request.params.logprobs),
        usage=answer.usage.usage() if answer.usage else Usage(0, 0),
    )
    if not split_reasoning and request.params.tools is None:
        _check_plain(response)
    return response


def _message(wire: _WireMessage, *, split: bool) -> Message:
    content, reasoning = wire.content, None
    if split:
        reasoning = wire.separate_reasoning()
        if reasoning is None and content is not None:
            reasoning, content = split_reasoning(content)
    return Message(
        role=wire.role or "assistant",
        content=content,
        reasoning_content=reasoning,
        tool_calls=[_tool_call(call) for call in wire.tool_calls] if wire.tool_calls else None,
    )


def _tool_call(wire: _WireToolCall) -> ToolCall:
    if wire.function is None or wire.function.name is None:
        raise BadUpstreamAnswer("The inference backend called a tool without naming it.")
    return ToolCall(wire.id or "", wire.function.name, wire.function.arguments or "")


def _check_plain(response: ChatResponse) -> None:
    """Callers of the older interface that offered no tools take nothing but text."""
    if response.message.tool_calls or response.finish_reason is FinishReason.TOOL_CALLS:
        raise _unexpected_tool_call()
    if response.message.content is None:
        raise EmptyContent("The inference backend's answer has no content.")


class ChatStream:
    """Normalises a streamed answer: exactly one begin, everything between, one end, then usage.

    ``ended`` is true when nothing more is to be expected.
    """

    def __init__(self, request: ChatRequest, asked: Asked, *, split_reasoning: bool) -> None:
        self._asked = asked
        self._logprobs = request.params.logprobs
        self._refuses_tools = not split_reasoning and request.params.tools is None
        self._thinking = ThinkParser() if split_reasoning else None
        self._split = split_reasoning
        self._held_logprobs: list[Distribution] = []
        self._begun = False
        self._usage: Usage | None = None
        self.finished = False
        """The finish reason has come; at most usage may follow."""
        self.ended = False

    def feed(self, event: ServerSentEvent) -> list[ChatEvent]:
        """Raises ``BadUpstreamAnswer``, or the error that the server reports inside the stream."""
        if event.data == b"[DONE]":
            self.ended = True
            return []
        if event.name == b"error":
            raise error_in(event.data, self._asked) or to_error(None, None, self._asked)
        chunk = decode_answer(_chunk_decoder, event.data, self._asked)
        if chunk.error is not None or (not chunk.choices and chunk.usage is None):
            self._raise_reported(event.data)
        if chunk.usage is not None:
            self._usage = chunk.usage.usage()
        choice = first_choice(chunk.choices)
        return [] if choice is None else self._choice(choice)

    def finish(self) -> list[ChatEvent]:
        """What is left when the stream is over; ``BadUpstreamAnswer`` if that is too early."""
        if not self.finished:
            raise BadUpstreamAnswer("The inference backend's stream ended without a finish reason.")
        return [] if self._usage is None else [UsageEvent(self._usage)]

    def _raise_reported(self, data: bytes) -> None:
        if error := error_in(data, self._asked):
            raise error

    def _choice(self, choice: _ChunkChoice) -> list[ChatEvent]:
        delta = choice.delta or _WireMessage()
        if self.finished:
            if delta.content or delta.tool_calls or delta.separate_reasoning():
                log.warning("The inference backend went on after the finish reason; dropped.")
            return []
        events: list[ChatEvent] = []
        if not self._begun:
            self._begun = True
            events.append(MessageBegin(delta.role or "assistant"))
        if self._split and (reasoning := delta.separate_reasoning()):
            events += self._content_so_far()
            events.append(Reasoning(reasoning))
        if delta.content or choice.logprobs:
            events += self._content(
                delta.content or "", _distributions(choice.logprobs, self._logprobs)
            )
        if delta.tool_calls:
            events.append(self._tool_calls(delta.tool_calls))
        if choice.finish_reason and (reason := finish_reason(choice.finish_reason)):
            events += self._end(reason)
        return events

    def _content(self, text: str, logprobs: list[Distribution]) -> list[ChatEvent]:
        if self._held_logprobs:
            logprobs = self._held_logprobs + logprobs
        if self._thinking is not None:
            if not self._thinking.transparent:
                return self._pieces(self._thinking.feed(text), logprobs)
            self._thinking = None
        if not text:
            self._held_logprobs = logprobs
            return []
        self._held_logprobs = []
        return [MessageAppend(text, logprobs)]

    def _pieces(self, pieces: list[Piece], logprobs: list[Distribution]) -> list[ChatEvent]:
        """Log probabilities go with the content of their chunk; those of reasoning go nowhere."""
        self._held_logprobs = [] if pieces else logprobs
        return [
            Reasoning(piece.text) if piece.reasoning else MessageAppend(piece.text, logprobs)
            for piece in pieces
        ]

    def _content_so_far(self) -> list[ChatEvent]:
        """No tags are looked for from here on; what was held back for them comes out."""
        thinking, self._thinking = self._thinking, None
        return self._pieces(thinking.finish(), self._held_logprobs) if thinking else []

    def _tool_calls(self, wire: list[_WireToolCall]) -> ToolCallDelta:
        if self._refuses_tools:
            raise _unexpected_tool_call()
        return ToolCallDelta([_chunk_of_call(call, place) for place, call in enumerate(wire)])

    def _end(self, reason: FinishReason) -> list[ChatEvent]:
        if self._refuses_tools and reason is FinishReason.TOOL_CALLS:
            raise _unexpected_tool_call()
        self.finished = True
        events = self._content_so_far()
        if self._held_logprobs:
            # Tokens without text of their own, such as the first half of a character.
            events.append(MessageAppend("", self._held_logprobs))
        events.append(MessageEnd(reason))
        return events


def _chunk_of_call(wire: _WireToolCall, place: int) -> ToolCallChunk:
    function = wire.function or _WireFunction()
    index = place if wire.index is None else wire.index
    return ToolCallChunk(index, wire.id, function.name, function.arguments)


class _Indexed(Protocol):
    index: int | None


_AnyChoice = TypeVar("_AnyChoice", bound=_Indexed)


def first_choice(choices: list[_AnyChoice] | None) -> _AnyChoice | None:
    """One answer was asked for; should a server send more, only the first counts."""
    return next((choice for choice in choices or () if not choice.index), None)


def decode_answer(decoder: msgspec.json.Decoder[T], data: bytes, asked: Asked) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning(
            "The inference backend's answer can't be read (%s): %r", error, asked.for_log(data)
        )
        raise error_in(data, asked) or BadUpstreamAnswer(
            "The inference backend's answer is not the JSON that was expected."
        ) from error


def error_in(data: bytes, asked: Asked) -> CsiError | None:
    """The error that the server reports, if this is one."""
    problem = parse_problem(data)
    if problem is None:
        return None
    log.warning("The inference backend reports an error: %r", asked.for_log(data))
    return to_error(None, problem, asked)


def finish_reason(name: str | None) -> FinishReason | None:
    if not name:
        return None
    if name not in _FINISH_REASONS:
        raise BadUpstreamAnswer(
            f"The inference backend gave the unknown finish reason `{name[:100]}`."
        )
    return _FINISH_REASONS[name]


def _distributions(wire: _WireLogprobs | None, wanted: LogprobsChoice) -> list[Distribution]:
    return distributions(wire.content or [], wanted) if wire else []


def distributions(wire: list[WireDistribution], wanted: LogprobsChoice) -> list[Distribution]:
    """Of as many of the most likely tokens as were asked for."""
    if wanted == "no":
        return []
    count = wanted.top if isinstance(wanted, TopLogprobs) else 0
    return [
        Distribution(_logprob(token), [_logprob(top) for top in (token.top_logprobs or [])[:count]])
        for token in wire
    ]


def _logprob(wire: _WireLogprob) -> Logprob:
    token = wire.token.encode() if wire.bytes is None else bytes(wire.bytes)
    return Logprob(token, math.nan if wire.logprob is None else wire.logprob)


def _unexpected_tool_call() -> UnexpectedToolCall:
    return UnexpectedToolCall("The inference backend called a tool, but the request offered none.")
