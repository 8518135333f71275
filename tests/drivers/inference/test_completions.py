"""Completions over ``/completions``: against llama.cpp's server, and its shapes in detail."""

import json
import math
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pharia_kernel.csi.types import (
    CallContext,
    CompletionAppend,
    CompletionEnd,
    CompletionEvent,
    CompletionParams,
    CompletionRequest,
    Distribution,
    FinishReason,
    Logprob,
    TopLogprobs,
    Usage,
    UsageEvent,
)
from pharia_kernel.drivers.inference.credentials import ConfiguredToken
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.drivers.inference.openai_completions import (
    CompletionStream,
    decode_completion,
    encode_completion,
)
from pharia_kernel.drivers.inference.openai_errors import Asked, Redactor
from pharia_kernel.drivers.inference.sse import ServerSentEvent
from pharia_kernel.errors import BadUpstreamAnswer, InvalidCsiRequest, UpstreamOverloaded
from tests.support.llm import Llm

ASKED = Asked("m", "secret", Redactor("backend"))


def request(**params: Any) -> CompletionRequest:
    return CompletionRequest("tiny", "Say", CompletionParams(**params))


@pytest.fixture
async def real(llm: Llm) -> AsyncGenerator[OpenAiDriver, None]:
    driver = OpenAiDriver(llm.url, ConfiguredToken(llm.token))
    yield driver
    await driver.close()


async def test_a_real_completion(real: OpenAiDriver) -> None:
    completion = await real.complete(request(max_tokens=4), CallContext())
    assert completion.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert completion.usage.prompt > 0
    assert completion.logprobs == []


async def test_real_log_probabilities(real: OpenAiDriver) -> None:
    completion = await real.complete(request(max_tokens=3, logprobs=TopLogprobs(2)), CallContext())
    assert completion.logprobs
    assert all(len(d.top) == 2 and d.sampled.logprob <= 0 for d in completion.logprobs)


async def test_a_real_stream_is_the_same_text(real: OpenAiDriver) -> None:
    params = {"max_tokens": 6, "temperature": 0.0}
    whole = await real.complete(request(**params), CallContext())
    events = [event async for event in real.completion_stream(request(**params), CallContext())]
    text = "".join(event.text for event in events if isinstance(event, CompletionAppend))
    assert text == whole.text
    assert isinstance(events[-2], CompletionEnd)
    assert isinstance(events[-1], UsageEvent)


def test_everything_that_is_asked() -> None:
    body = json.loads(
        encode_completion(
            request(
                max_tokens=5, temperature=0.5, top_k=3, top_p=0.9, stop=["x"], echo=True,
                frequency_penalty=0.1, presence_penalty=0.2, logprobs=TopLogprobs(4),
            ),
            stream=True,
        )
    )  # fmt: skip
    assert body == {
        "model": "tiny", "prompt": "Say", "max_tokens": 5, "temperature": 0.5, "top_k": 3,
        "top_p": 0.9, "stop": ["x"], "echo": True, "frequency_penalty": 0.1,
        "presence_penalty": 0.2, "logprobs": 4, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_what_is_not_asked_is_not_sent() -> None:
    body = json.loads(encode_completion(request(), stream=False))
    assert body == {"model": "tiny", "prompt": "Say"}


def test_infinite_numbers_are_refused() -> None:
    with pytest.raises(InvalidCsiRequest, match="temperature"):
        encode_completion(request(temperature=math.inf), stream=False)


def answer(**choice: Any) -> bytes:
    return json.dumps({"choices": [{"text": "ab", "finish_reason": "stop", **choice}]}).encode()


def test_parallel_lists_of_log_probabilities() -> None:
    logprobs = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"b": -0.5, "c": -0.1, "d": -3.0}],
    }
    completion = decode_completion(
        answer(logprobs=logprobs), request(logprobs=TopLogprobs(2)), ASKED
    )
    first, second = completion.logprobs
    assert first.sampled.token == b"a"
    assert math.isnan(first.sampled.logprob)
    assert second == Distribution(Logprob(b"b", -0.5), [Logprob(b"c", -0.1), Logprob(b"b", -0.5)])


def test_only_the_sampled_one() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]}
    completion = decode_completion(answer(logprobs=logprobs), request(logprobs="sampled"), ASKED)
    assert completion.logprobs == [Distribution(Logprob(b"a", -1.0), [])]


def test_missing_usage_is_zero() -> None:
    assert decode_completion(answer(), request(), ASKED).usage == Usage(0, 0)


@pytest.mark.parametrize("body", [b"{}", b'{"choices":[]}', answer(finish_reason=None), b"nope"])
def test_answers_that_make_no_sense(body: bytes) -> None:
    with pytest.raises(BadUpstreamAnswer):
        decode_completion(body, request(), ASKED)


def read(*chunks: dict[str, Any] | str) -> list[CompletionEvent]:
    stream = CompletionStream(request(), ASKED)
    events: list[CompletionEvent] = []
    for chunk in chunks:
        data = chunk if isinstance(chunk, str) else json.dumps(chunk)
        events += stream.feed(ServerSentEvent(data.encode()))
    return events + stream.finish()


def test_usage_with_the_last_text() -> None:
    chunk = {
        "choices": [{"text": "a", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    assert read(chunk, "[DONE]") == [
        CompletionAppend("a", []),
        CompletionEnd(FinishReason.LENGTH),
        UsageEvent(Usage(1, 2)),
    ]


def test_a_stream_that_ends_early() -> None:
    with pytest.raises(BadUpstreamAnswer, match="finish reason"):
        read({"choices": [{"text": "a"}]}, "[DONE]")


def test_an_error_inside_the_stream() -> None:
    with pytest.raises(UpstreamOverloaded):
        read({"error": {"message": "busy", "code": 503}})
