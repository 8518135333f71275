"""``POST /completions`` of OpenAI-compatible servers: requests and answers.

The protocol has no way to ask for special tokens in the text, so ``return_special_tokens`` changes
nothing here. Log probabilities come in the protocol's own shape (parallel lists) or, from some
servers, in that of chats; both are read.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from msgspec import Struct

from pharia_kernel.csi.types import (
    Completion,
    CompletionAppend,
    CompletionEnd,
    CompletionEvent,
    CompletionRequest,
    Distribution,
    Logprob,
    LogprobsChoice,
    TopLogprobs,
    Usage,
    UsageEvent,
)
from pharia_kernel.drivers.inference.openai_answers import (
    WireDistribution,
    WireUsage,
    decode_answer,
    distributions,
    error_in,
    finish_reason,
    first_choice,
)
from pharia_kernel.drivers.inference.openai_errors import Asked, to_error
from pharia_kernel.drivers.inference.openai_requests import StreamOptions, check_numbers
from pharia_kernel.drivers.inference.sse import ServerSentEvent
from pharia_kernel.errors import BadUpstreamAnswer, InvalidCsiRequest

# --- requests -------------------------------------------------------------------------------------


class _Body(Struct, omit_defaults=True, kw_only=True):
    model: str
    prompt: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    stop: list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: int | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


def encode_completion(request: CompletionRequest, *, stream: bool) -> bytes:
    """JSON of the request; raises ``InvalidCsiRequest`` for what can't be asked."""
    params = request.params
    check_numbers(params)
    body = _Body(
        model=request.model,
        prompt=request.prompt,
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        stop=params.stop or None,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
        logprobs=_asked_logprobs(params.logprobs),
        echo=params.echo or None,
        stream=True if stream else None,
        stream_options=StreamOptions() if stream else None,
    )
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise InvalidCsiRequest("The prompt holds text that is not valid Unicode.") from error


def _asked_logprobs(wanted: LogprobsChoice) -> int | None:
    """Some servers take 0 for "none at all"; the one too many is cut from the answer."""
    if wanted == "no":
        return None
    return max(1, wanted.top) if isinstance(wanted, TopLogprobs) else 1


# --- answers --------------------------------------------------------------------------------------


class _Logprobs(Struct):
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None
    content: list[WireDistribution] | None = None


class _Choice(Struct):
    index: int | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Answer(Struct):
    """A whole answer, or one chunk of it."""

    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Answer)


def decode_completion(body: bytes, request: CompletionRequest, asked: Asked) -> Completion:
    """Usage is zero if the server tells none. Raises ``BadUpstreamAnswer``, or the error that the
    server reports in place of an answer."""
    answer = decode_answer(_decoder, body, asked)
    choice = first_choice(answer.choices) if answer.error is None else None
    if choice is None or choice.text is None:
        raise error_in(body, asked) or BadUpstreamAnswer(
            "The inference backend's answer has no completion."
        )
    reason = finish_reason(choice.finish_reason)
    if reason is None:
        raise BadUpstreamAnswer("The inference backend's answer has no finish reason.")
    return Completion(
        choice.text,
        reason,
        _distributions(choice.logprobs, request.params.logprobs),
        answer.usage.usage() if answer.usage else Usage(0, 0),
    )


class CompletionStream:
    """Appends, one end, then usage if it is known; a ``StreamReader``."""

    def __init__(self, request: CompletionRequest, asked: Asked) -> None:
        self._asked = asked
        self._logprobs = request.params.logprobs
        self._usage: Usage | None = None
        self.finished = False
        self.ended = False

    def feed(self, event: ServerSentEvent) -> list[CompletionEvent]:
        if event.data == b"[DONE]":
            self.ended = True
            return []
        if event.name == b"error":
            raise error_in(event.data, self._asked) or to_error(None, None, self._asked)
        chunk = decode_answer(_decoder, event.data, self._asked)
        if (chunk.error is not None or not chunk.choices) and (
            reported := error_in(event.data, self._asked)
        ):
            raise reported
        if chunk.usage is not None:
            self._usage = chunk.usage.usage()
        choice = first_choice(chunk.choices)
        return [] if choice is None or self.finished else self._choice(choice)

    def finish(self) -> list[CompletionEvent]:
        if not self.finished:
            raise BadUpstreamAnswer("The inference backend's stream ended without a finish reason.")
        return [] if self._usage is None else [UsageEvent(self._usage)]

    def _choice(self, choice: _Choice) -> list[CompletionEvent]:
        events: list[CompletionEvent] = []
        logprobs = _distributions(choice.logprobs, self._logprobs)
        if choice.text or logprobs:
            events.append(CompletionAppend(choice.text or "", logprobs))
        if reason := finish_reason(choice.finish_reason):
            self.finished = True
            events.append(CompletionEnd(reason))
        return events


def _distributions(wire: _Logprobs | None, wanted: LogprobsChoice) -> list[Distribution]:
    if wire is None or wanted == "no":
        return []
    if wire.content is not None:
        return distributions(wire.content, wanted)
    count = wanted.top if isinstance(wanted, TopLogprobs) else 0
    tokens = wire.tokens or []
    sampled = wire.token_logprobs or [None] * len(tokens)
    tops = wire.top_logprobs or [None] * len(tokens)
    return [
        Distribution(_logprob(token, value), _top(top or {}, count))
        for token, value, top in zip(tokens, sampled, tops, strict=False)
    ]


def _top(values: dict[str, float], count: int) -> list[Logprob]:
    ranked = sorted(values.items(), key=lambda item: item[1], reverse=True)
    return [_logprob(token, value) for token, value in ranked[:count]]


def _logprob(token: str, value: float | None) -> Logprob:
    return Logprob(token.encode(), math.nan if value is None else value)
