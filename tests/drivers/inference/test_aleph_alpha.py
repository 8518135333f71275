"""The Aleph Alpha API, spoken to a small server of ours that knows its wire format."""

import math
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pharia_kernel.csi.types import (
    CallContext,
    ChatParams,
    ChatRequest,
    CompletionAppend,
    CompletionEnd,
    CompletionParams,
    CompletionRequest,
    Distribution,
    ExplanationRequest,
    FinishReason,
    Logprob,
    Message,
    TextScore,
    TopLogprobs,
    Usage,
    UsageEvent,
)
from pharia_kernel.drivers.inference.aleph_alpha import AlephAlphaDriver
from pharia_kernel.errors import (
    BadUpstreamAnswer,
    ModelNotFound,
    TokenRequired,
    UpstreamOverloaded,
    UpstreamUnauthorized,
)
from pharia_kernel.resilience import RetryPolicy
from tests.support.aleph_alpha import AlephAlpha, running_aleph_alpha

CALLER = CallContext(token="callers-token")


@pytest.fixture
async def server() -> AsyncGenerator[AlephAlpha, None]:
    async with running_aleph_alpha() as running:
        yield running


@pytest.fixture
async def driver(server: AlephAlpha) -> AsyncGenerator[AlephAlphaDriver, None]:
    made = AlephAlphaDriver(server.url, retry_policy=RetryPolicy(attempts=2, base=0.001))
    yield made
    await made.close()


def request(**params: Any) -> CompletionRequest:
    return CompletionRequest("luminous", "Hello", CompletionParams(**params))


async def test_a_completion(driver: AlephAlphaDriver, server: AlephAlpha) -> None:
    completion = await driver.complete(request(max_tokens=2, stop=["."]), CALLER)
    assert completion.text == " world"
    assert completion.finish_reason is FinishReason.LENGTH
    assert completion.usage == Usage(3, 2)
    assert server.received == [
        (
            "/complete",
            {
                "model": "luminous",
                "prompt": [{"data": "Hello", "type": "text"}],
                "maximum_tokens": 2,
                "stop_sequences": ["."],
            },
            "Bearer callers-token",
        )
    ]


async def test_special_tokens_and_echo(driver: AlephAlphaDriver, server: AlephAlpha) -> None:
    completion = await driver.complete(request(return_special_tokens=True, echo=True), CALLER)
    assert completion.text == " world<|end|>"
    assert server.received[0][1]["raw_completion"] is True
    assert server.received[0][1]["echo"] is True


async def test_log_probabilities(driver: AlephAlphaDriver, server: AlephAlpha) -> None:
    completion = await driver.complete(request(logprobs=TopLogprobs(1)), CALLER)
    first, second = completion.logprobs
    assert first == Distribution(Logprob(b" wor", -0.5), [Logprob(b" x", -0.2)])
    assert math.isnan(second.sampled.logprob)
    assert second.top == []
    assert (server.received[0][1]["log_probs"], server.received[0][1]["tokens"]) == (1, True)


async def test_a_stream(driver: AlephAlphaDriver) -> None:
    events = [event async for event in driver.completion_stream(request(), CALLER)]
    assert events == [
        CompletionAppend(" wor", []),
        CompletionAppend("ld", []),
        CompletionEnd(FinishReason.STOP),
        UsageEvent(Usage(3, 2)),
    ]


@pytest.mark.parametrize("granularity", ["auto", "word"])
async def test_an_explanation(
    driver: AlephAlphaDriver, server: AlephAlpha, granularity: Any
) -> None:
    asked = ExplanationRequest("Hello", "world", "luminous", granularity)
    assert await driver.explain(asked, CALLER) == [TextScore(0, 5, 0.75)]
    expected = None if granularity == "auto" else {"type": "word"}
    assert server.received[0][1].get("prompt_granularity") == expected


async def test_nothing_is_sent_without_a_token(
    driver: AlephAlphaDriver, server: AlephAlpha
) -> None:
    with pytest.raises(TokenRequired):
        await driver.complete(request(), CallContext())
    with pytest.raises(TokenRequired):
        await anext(driver.completion_stream(request(), CallContext()))
    assert not server.received


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"error": "invalid token", "code": "UNAUTHORIZED"}, UpstreamUnauthorized),
        (404, {"error": "no such model", "code": "UNKNOWN_MODEL"}, ModelNotFound),
    ],
)
async def test_its_own_error_format(
    driver: AlephAlphaDriver, server: AlephAlpha, status: int, body: Any, error: type[Exception]
) -> None:
    server.answers = [(status, body), (status, body)]
    with pytest.raises(error):
        await driver.complete(request(), CALLER)
    chat = ChatRequest("luminous", [Message(role="user", content="Hi")], ChatParams())
    with pytest.raises(error):
        await driver.chat(chat, CALLER, split_reasoning=True)


async def test_a_full_queue_is_tried_again(driver: AlephAlphaDriver, server: AlephAlpha) -> None:
    full = (503, {"error": "queue is full", "code": "QUEUE_FULL"})
    server.answers = [full]
    assert (await driver.complete(request(), CALLER)).text == " world"
    server.answers = [full, full]
    with pytest.raises(UpstreamOverloaded):
        await driver.complete(request(), CALLER)


@pytest.mark.parametrize(
    "answer",
    [{}, {"completions": []}, {"completions": [{"completion": "x", "finish_reason": "odd"}]}],
)
async def test_answers_that_make_no_sense(
    driver: AlephAlphaDriver, server: AlephAlpha, answer: Any
) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(BadUpstreamAnswer):
        await driver.complete(request(), CALLER)


@pytest.mark.parametrize("answer", [{}, {"explanations": []}, {"explanations": [{"items": []}]}])
async def test_explanations_that_make_no_sense(
    driver: AlephAlphaDriver, server: AlephAlpha, answer: Any
) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(BadUpstreamAnswer):
        await driver.explain(ExplanationRequest("a", "b", "luminous", "auto"), CALLER)
