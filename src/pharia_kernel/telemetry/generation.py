"""Inference, as the semantic conventions for generative AI want it told.

Spans keep the names of the original kernel (``chat``, ``text_completion``) instead of
``chat MODEL``; attributes and the shape of messages are the conventions'.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatParams,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionAppend,
    CompletionEnd,
    CompletionEvent,
    CompletionParams,
    CompletionRequest,
    FinishReason,
    Message,
    MessageAppend,
    MessageEnd,
    Reasoning,
    ToolCallDelta,
    Usage,
    UsageEvent,
)
from pharia_kernel.telemetry import metrics, names, tracing
from pharia_kernel.telemetry.calls import Call

MAX_CONTENT = 128 * 1024
"""Characters of the prompts, and of the answers, that a span carries. What is longer is cut, the
oldest messages first."""
_CUT = "…"
_FINISH = {FinishReason.TOOL_CALLS: "tool_call"}
"""Where the schema of output messages has another word."""

_capture = False


def capture_content(wanted: bool) -> None:
    """Whether spans carry prompts and answers."""
    global _capture
    _capture = wanted


def captures_content() -> bool:
    return _capture


Part = dict[str, Any]
Json = dict[str, Any]


class Generation(Call):
    """Context of one request to a model."""

    __slots__ = ("_answer", "_first", "_request")

    def __init__(
        self,
        function: str,
        request: ChatRequest | CompletionRequest,
        context: CallContext,
        *,
        stream: bool = False,
    ) -> None:
        chat = isinstance(request, ChatRequest)
        name = names.CHAT if chat else names.TEXT_COMPLETION
        super().__init__(function, context, span_name=name, model=request.model, kind="client")
        self._request = request
        self._first = True
        self._answer: _Answer | None = None
        if self.span:
            self._describe(name, request, stream)

    def _describe(
        self, operation: str, request: ChatRequest | CompletionRequest, stream: bool
    ) -> None:
        span, params = self.span, request.params
        span.set(names.OPERATION, operation)
        span.set(names.REQUEST_MODEL, request.model)
        span.set(names.REQUEST_TEMPERATURE, params.temperature)
        span.set(names.REQUEST_TOP_P, params.top_p)
        span.set(names.REQUEST_FREQUENCY_PENALTY, params.frequency_penalty)
        span.set(names.REQUEST_PRESENCE_PENALTY, params.presence_penalty)
        span.set(names.REQUEST_STREAM, stream or None)
        match params:
            case ChatParams():
                limit = params.max_tokens or params.max_completion_tokens
                span.set(names.REQUEST_MAX_TOKENS, limit)
                span.set(names.REQUEST_REASONING, params.reasoning_effort)
                span.set(names.OUTPUT_TYPE, _output_type(params))
            case CompletionParams():
                span.set(names.REQUEST_MAX_TOKENS, params.max_tokens)
                span.set(names.REQUEST_TOP_K, params.top_k)
                span.set(names.REQUEST_STOP, params.stop or None)
        if _capture:
            self._answer = _Answer()
            span.set(names.INPUT_MESSAGES, _input(request))

    def answered(self, answer: ChatResponse | Completion) -> None:
        """The model's whole answer has come."""
        self._count_tokens(answer.usage)
        if not self.span:
            return
        self._finished(answer.finish_reason)
        if self._answer:
            match answer:
                case ChatResponse(message):
                    parts = _parts(message)
                case Completion(text):
                    parts = [_text(text)]
            self.span.set(names.OUTPUT_MESSAGES, _output(parts, answer.finish_reason))

    def saw(self, event: ChatEvent | CompletionEvent) -> None:
        """An event of the model's streamed answer has come."""
        if self._first:
            self._first = False
            seconds = self.seconds
            metrics.first_chunk(self._request.model, seconds)
            self.span.set(names.TIME_TO_FIRST_CHUNK, seconds)
        match event:
            case UsageEvent(usage):
                self._count_tokens(usage)
            case MessageEnd(reason) | CompletionEnd(reason):
                self._finished(reason)
            case _:
                pass
        if self._answer:
            self._answer.add(event)

    def end(self, error: BaseException | None) -> None:
        if self._answer:
            self.span.set(names.OUTPUT_MESSAGES, self._answer.message())
        super().end(error)

    def _finished(self, reason: FinishReason) -> None:
        self.span.set(names.FINISH_REASONS, [str(reason)])

    def _count_tokens(self, usage: Usage) -> None:
        context = self._context
        name = (context.skill or "").partition("/")[2]
        metrics.tokens_used(
            self._request.model, context.namespace or "", name, usage.prompt, usage.completion
        )
        self.span.set(names.INPUT_TOKENS, usage.prompt)
        self.span.set(names.OUTPUT_TOKENS, usage.completion)


def _output_type(params: ChatParams) -> str | None:
    if params.response_format is None:
        return None
    return "text" if params.response_format == "text" else "json"


# --- what drivers add -----------------------------------------------------------------------------


class _Head(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    model_version: str | None = None


_decode_head = msgspec.json.Decoder(_Head).decode


def asked(provider: str, host: str, port: int | None) -> None:
    """The current span's request goes to this server. ``provider`` is a name of the conventions,
    or one of our own where they have none."""
    span = tracing.current()
    if span:
        span.set(names.PROVIDER, provider)
        span.set(names.SERVER_ADDRESS, host)
        span.set(names.SERVER_PORT, port)


def answered_with(answer: bytes | str) -> None:
    """The server's JSON, or the first event of its stream: tells which model answered."""
    span = tracing.current()
    if not span:
        return
    try:
        head = _decode_head(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return  # whoever decodes all of it says what is wrong
    span.set(names.RESPONSE_ID, head.id)
    span.set(names.RESPONSE_MODEL, head.model or head.model_version)


# --- content --------------------------------------------------------------------------------------


class _Answer:
    """An answer that comes in pieces."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, list[str]] = {}
        self._reason: FinishReason | None = None
        self._size = 0

    def add(self, event: ChatEvent | CompletionEvent) -> None:
        match event:
            case MessageAppend(text) | CompletionAppend(text):
                self._keep(self._text, text)
            case Reasoning(text):
                self._keep(self._reasoning, text)
            case ToolCallDelta(chunks):
                for chunk in chunks:
                    call = self._calls.setdefault(chunk.index, ["", "", ""])
                    for i, piece in enumerate((chunk.id, chunk.name, chunk.arguments)):
                        call[i] += (piece or "")[: self._room(piece or "")]
            case MessageEnd(reason) | CompletionEnd(reason):
                self._reason = reason
            case _:
                pass

    def _keep(self, pieces: list[str], text: str) -> None:
        pieces.append(text[: self._room(text)])

    def _room(self, text: str) -> int:
        room = max(0, MAX_CONTENT - self._size)
        self._size += min(room, len(text))
        return room

    def message(self) -> str:
        parts = [_reasoning("".join(self._reasoning))] if self._reasoning else []
        parts += [_text("".join(self._text))] if self._text else []
        parts += [_tool_call(*call) for _, call in sorted(self._calls.items())]
        return _output(parts, self._reason)


def _input(request: ChatRequest | CompletionRequest) -> str:
    if isinstance(request, CompletionRequest):
        return _json(_newest([{"role": "user", "parts": [_text(request.prompt)]}]))
    return _json(_newest([{"role": m.role, "parts": _parts(m)} for m in request.messages]))


def _newest(messages: list[Json]) -> list[Json]:
    """The end of the conversation, as far as it fits."""
    room = MAX_CONTENT
    kept: list[Json] = []
    for message in reversed(messages):
        parts = []
        for part in reversed(message["parts"]):
            parts.append(_cut(part, room))
            room = max(0, room - _size(part))
        kept.append({**message, "parts": parts[::-1]})
        if room == 0:
            break
    return kept[::-1]


_CONTENT_KEYS = ("content", "arguments", "response")


def _size(part: Part) -> int:
    return sum(len(str(part[key])) for key in _CONTENT_KEYS if key in part)


def _cut(part: Part, room: int) -> Part:
    if _size(part) <= room:
        return part
    return {
        key: str(value)[:room] + _CUT if key in _CONTENT_KEYS else value
        for key, value in part.items()
    }


def _output(parts: list[Part], reason: FinishReason | None) -> str:
    finish = "error" if reason is None else _FINISH.get(reason, str(reason))
    (message,) = _newest([{"role": "assistant", "parts": parts}])
    return _json([{**message, "finish_reason": finish}])


def _parts(message: Message) -> list[Part]:
    """Of a message: reasoning, text, tool calls, or the result of one."""
    if message.tool_call_id is not None:
        return [
            {
                "type": "tool_call_response",
                "id": message.tool_call_id,
                "response": message.content or "",
            }
        ]
    parts = [_reasoning(message.reasoning_content)] if message.reasoning_content else []
    parts += [_text(message.content)] if message.content else []
    calls = message.tool_calls or []
    return [*parts, *(_tool_call(call.id, call.name, call.arguments) for call in calls)]


def _text(text: str) -> Part:
    return {"type": "text", "content": text}


def _reasoning(text: str) -> Part:
    return {"type": "reasoning", "content": text}


def _tool_call(id: str, name: str, arguments: str) -> Part:
    """Arguments are the model's own text if they are no JSON."""
    try:
        value: Any = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        value = arguments
    return {"type": "tool_call", "id": id, "name": name, "arguments": value}


def _json(messages: list[Json]) -> str:
    return msgspec.json.encode(messages).decode()
