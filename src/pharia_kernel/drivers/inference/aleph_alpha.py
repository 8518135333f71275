"""Driver for the Aleph Alpha inference API: completions and explanations in its own format, chat in
OpenAI's. The caller's token is used for everything."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from msgspec import Struct

from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionAppend,
    CompletionEnd,
    CompletionEvent,
    CompletionParams,
    CompletionRequest,
    Distribution,
    ExplanationRequest,
    FinishReason,
    Logprob,
    LogprobsChoice,
    TextScore,
    TopLogprobs,
    Usage,
    UsageEvent,
)
from pharia_kernel.drivers.inference.backend import Backend
from pharia_kernel.drivers.inference.credentials import CallersToken, Token
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.drivers.inference.openai_answers import decode_answer, error_in
from pharia_kernel.drivers.inference.openai_errors import Asked, to_error
from pharia_kernel.drivers.inference.openai_requests import check_numbers
from pharia_kernel.drivers.inference.sse import ServerSentEvent
from pharia_kernel.errors import BadUpstreamAnswer, InvalidCsiRequest
from pharia_kernel.resilience import RetryBudget, RetryPolicy

_PROVIDER = "aleph_alpha"
_FINISH_REASONS = {
    "length": FinishReason.LENGTH,
    "maximum_tokens": FinishReason.LENGTH,
    "stop": FinishReason.STOP,
    "end_of_text": FinishReason.STOP,
    "stop_sequence_reached": FinishReason.STOP,
    "content_filter": FinishReason.CONTENT_FILTER,
}


class AlephAlphaDriver:
    """An ``InferenceDriver``; the arguments are those of ``Backend``."""

    def __init__(
        self,
        url: str,
        token: Token | None = None,
        *,
        timeout: float = 600.0,
        max_concurrency: int = 2048,
        retry_policy: RetryPolicy | None = None,
        retry_budget: RetryBudget | None = None,
    ) -> None:
        token = token or CallersToken()
        budget = retry_budget or RetryBudget()
        self._backend = Backend(
            url,
            token,
            provider=_PROVIDER,
            timeout=timeout,
            max_concurrency=max_concurrency,
            retry_policy=retry_policy,
            retry_budget=budget,
        )
        self._chat = OpenAiDriver(
            url,
            token,
            provider=_PROVIDER,
            timeout=timeout,
            max_concurrency=max_concurrency,
            retry_policy=retry_policy,
            retry_budget=budget,
        )

    async def chat(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> ChatResponse:
        return await self._chat.chat(request, context, split_reasoning=split_reasoning)

    def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        return self._chat.chat_stream(request, context, split_reasoning=split_reasoning)

    async def complete(self, request: CompletionRequest, context: CallContext) -> Completion:
        asked = self._backend.asked(request.model, context)
        body = encode_completion(request, stream=False)
        answer = await self._backend.fetch("complete", body, context, asked)
        return decode_completion(answer, request, asked)

    async def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        asked = self._backend.asked(request.model, context)
        body = encode_completion(request, stream=True)
        reader = CompletionStream(request.params, asked)
        stream = self._backend.stream("complete", body, context, asked, reader)
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def explain(self, request: ExplanationRequest, context: CallContext) -> list[TextScore]:
        asked = self._backend.asked(request.model, context)
        answer = await self._backend.fetch("explain", encode_explain(request), context, asked)
        return decode_explanation(answer, asked)

    async def close(self) -> None:
        await self._backend.close()
        await self._chat.close()


# --- requests -------------------------------------------------------------------------------------


class _Text(Struct):
    data: str
    type: Literal["text"] = "text"


class _CompletionBody(Struct, omit_defaults=True, kw_only=True):
    model: str
    prompt: list[_Text]
    maximum_tokens: int | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    raw_completion: bool | None = None
    log_probs: int | None = None
    tokens: bool | None = None
    echo: bool | None = None
    stream: bool | None = None


class _ExplanationBody(Struct, omit_defaults=True, kw_only=True):
    model: str
    prompt: list[_Text]
    target: str
    prompt_granularity: Mapping[str, str] | None = None


def encode_completion(request: CompletionRequest, *, stream: bool) -> bytes:
    """JSON of ``POST /complete``; raises ``InvalidCsiRequest`` for what can't be asked."""
    params = request.params
    check_numbers(params)
    wants_logprobs = params.logprobs != "no"
    return _encode(
        _CompletionBody(
            model=request.model,
            prompt=[_Text(request.prompt)],
            maximum_tokens=params.max_tokens,
            stop_sequences=params.stop or None,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            raw_completion=params.return_special_tokens or None,
            log_probs=_top_count(params.logprobs) if wants_logprobs else None,
            tokens=True if wants_logprobs else None,
            echo=params.echo or None,
            stream=stream or None,
        )
    )


def encode_explain(request: ExplanationRequest) -> bytes:
    """JSON of ``POST /explain``."""
    granularity = None if request.granularity == "auto" else {"type": request.granularity}
    return _encode(
        _ExplanationBody(
            model=request.model,
            prompt=[_Text(request.prompt)],
            target=request.target,
            prompt_granularity=granularity,
        )
    )


def _encode(body: Struct) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise InvalidCsiRequest("The request holds text that is not valid Unicode.") from error


def _top_count(wanted: LogprobsChoice) -> int:
    return wanted.top if isinstance(wanted, TopLogprobs) else 0


# --- answers --------------------------------------------------------------------------------------


class _Part(Struct):
    """One completion, or what a chunk adds to it."""

    completion: str | None = None
    raw_completion: str | None = None
    finish_reason: str | None = None
    log_probs: list[dict[str, float | None]] | None = None
    completion_tokens: list[str] | None = None

    def text(self, params: CompletionParams) -> str:
        raw = self.raw_completion if params.return_special_tokens else None
        return (self.completion or "") if raw is None else raw

    def distributions(self, params: CompletionParams) -> list[Distribution]:
        if params.logprobs == "no":
            return []
        count = _top_count(params.logprobs)
        pairs = zip(self.completion_tokens or [], self.log_probs or [], strict=False)
        return [_distribution(token, values, count) for token, values in pairs]


class _Answer(Struct):
    completions: list[_Part] | None = None
    num_tokens_prompt_total: int = 0
    num_tokens_generated: int = 0


class _Event(_Part):
    type: str | None = None
    num_tokens_prompt_total: int = 0
    num_tokens_generated: int = 0


class _Score(Struct):
    start: int
    length: int
    score: float


class _Item(Struct):
    type: str
    scores: list[Any] = []


class _Explanation(Struct):
    items: list[_Item] = []


class _Explanations(Struct):
    explanations: list[_Explanation] | None = None


_answers = msgspec.json.Decoder(_Answer)
_events = msgspec.json.Decoder(_Event)
_explanations = msgspec.json.Decoder(_Explanations)


def decode_completion(body: bytes, request: CompletionRequest, asked: Asked) -> Completion:
    """Raises ``BadUpstreamAnswer`` for an answer without a completion."""
    answer = decode_answer(_answers, body, asked)
    if not answer.completions:
        raise error_in(body, asked) or BadUpstreamAnswer(
            "The inference backend's answer has no completion."
        )
    part = answer.completions[-1]
    return Completion(
        part.text(request.params),
        _finish_reason(part.finish_reason),
        part.distributions(request.params),
        Usage(answer.num_tokens_prompt_total, answer.num_tokens_generated),
    )


class CompletionStream:
    """Reads ``stream_chunk``, ``stream_summary`` and ``completion_summary`` events; a
    ``StreamReader``."""

    def __init__(self, params: CompletionParams, asked: Asked) -> None:
        self._params = params
        self._asked = asked
        self.finished = False
        self.ended = False

    def feed(self, event: ServerSentEvent) -> list[CompletionEvent]:
        if event.data == b"[DONE]":
            self.ended = True
            return []
        if event.name == b"error":
            raise error_in(event.data, self._asked) or to_error(None, None, self._asked)
        part = decode_answer(_events, event.data, self._asked)
        match part.type:
            case "stream_chunk":
                return [CompletionAppend(part.text(self._params), part.distributions(self._params))]
            case "stream_summary":
                self.finished = True
                return [CompletionEnd(_finish_reason(part.finish_reason))]
            case "completion_summary":
                usage = Usage(part.num_tokens_prompt_total, part.num_tokens_generated)
                return [UsageEvent(usage)]
            case _:
                raise error_in(event.data, self._asked) or BadUpstreamAnswer(
                    "The inference backend sent an event of an unknown type."
                )

    def finish(self) -> list[CompletionEvent]:
        if not self.finished:
            raise BadUpstreamAnswer("The inference backend's stream ended without a finish reason.")
        return []


def decode_explanation(body: bytes, asked: Asked) -> list[TextScore]:
    """Scores of the prompt's text; raises ``BadUpstreamAnswer`` if there are none."""
    answer = decode_answer(_explanations, body, asked)
    if not answer.explanations:
        raise error_in(body, asked) or BadUpstreamAnswer(
            "The inference backend's answer has no explanation."
        )
    for item in answer.explanations[-1].items:
        if item.type == "text":
            scores = msgspec.convert(item.scores, list[_Score])
            return [TextScore(score.start, score.length, score.score) for score in scores]
    raise BadUpstreamAnswer("The inference backend explained none of the prompt's text.")


def _finish_reason(name: str | None) -> FinishReason:
    reason = _FINISH_REASONS.get(name or "")
    if reason is None:
        raise BadUpstreamAnswer(
            f"The inference backend gave the unknown finish reason `{(name or '')[:100]}`."
        )
    return reason


def _distribution(token: str, values: dict[str, float | None], count: int) -> Distribution:
    known = {name: value for name, value in values.items() if value is not None}
    ranked = sorted(known.items(), key=lambda item: item[1], reverse=True)
    return Distribution(
        Logprob(token.encode(), known.get(token, math.nan)),
        [Logprob(name.encode(), value) for name, value in ranked[:count]],
    )
