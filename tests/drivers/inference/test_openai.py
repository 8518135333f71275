"""The driver against a server that does what a script says."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatRequest,
    CompletionParams,
    CompletionRequest,
    Distribution,
    ExplanationRequest,
    FinishReason,
    Logprob,
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
from pharia_kernel.drivers.inference import upstream
from pharia_kernel.drivers.inference.base import InferenceDriver
from pharia_kernel.drivers.inference.credentials import CallersToken, ConfiguredToken
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.errors import (
    BadUpstreamAnswer,
    CsiError,
    EmptyContent,
    InvalidCsiRequest,
    ModelNotFound,
    NotConfigured,
    TokenRequired,
    UnexpectedToolCall,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnavailable,
)
from pharia_kernel.resilience import RetryBudget, RetryPolicy
from tests.drivers.inference.conftest import TOKEN
from tests.drivers.inference.requests import ADD, chat_request
from tests.support import faulty_llm as scripted
from tests.support.faulty_llm import FaultyLlm, chunk, message, sse

BEGIN = chunk({"role": "assistant", "content": ""})
STOP = chunk(finish="stop")
DONE = "[DONE]"
PATIENCE = 10.0
"""Seconds until a test gives up waiting."""


async def chat(
    driver: OpenAiDriver, *, split: bool = True, context: CallContext | None = None, **params: Any
) -> Any:
    return await driver.chat(
        chat_request(**params), context or CallContext(), split_reasoning=split
    )


def opened(
    driver: OpenAiDriver, *, split: bool = True, context: CallContext | None = None, **params: Any
) -> AsyncGenerator[ChatEvent, None]:
    return driver.chat_stream(
        chat_request(**params), context or CallContext(), split_reasoning=split
    )


async def events(driver: OpenAiDriver, **options: Any) -> list[ChatEvent]:
    return [event async for event in opened(driver, **options)]


async def events_until_error(
    driver: OpenAiDriver, error: type[CsiError], **options: Any
) -> list[ChatEvent]:
    """The events before the error, in order."""
    before = []
    with pytest.raises(error):
        async for event in opened(driver, **options):
            before.append(event)
    return before


def append(text: str) -> MessageAppend:
    return MessageAppend(text, [])


def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# --- the request ------------------------------------------------------------------------------


async def test_the_driver_is_an_inference_driver(driver: OpenAiDriver) -> None:
    checked: InferenceDriver = driver
    assert checked is driver


async def test_the_configured_token_and_the_trace_go_upstream(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    context = CallContext(token="callers", trace_headers={"traceparent": "00-1-2-01"})
    await chat(driver, context=context)
    [received] = faulty.received
    assert received.headers["authorization"] == f"Bearer {TOKEN}"
    assert received.headers["traceparent"] == "00-1-2-01"
    assert received.headers["content-type"] == "application/json"
    assert received.body["messages"] == [{"role": "user", "content": "Say something."}]


async def test_the_callers_token_goes_upstream(faulty: FaultyLlm) -> None:
    driver = OpenAiDriver(faulty.url, CallersToken())
    await chat(driver, context=CallContext(token="callers"))
    assert faulty.received[0].headers["authorization"] == "Bearer callers"
    await driver.close()


async def test_without_the_callers_token_nothing_is_sent(faulty: FaultyLlm) -> None:
    driver = OpenAiDriver(faulty.url, CallersToken())
    with pytest.raises(TokenRequired):
        await chat(driver)
    with pytest.raises(TokenRequired):
        await events(driver)
    assert not faulty.received
    await driver.close()


async def test_an_unsupported_role_is_refused_before_anything_is_sent(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    request = chat_request(Message(role="narrator", content="x"))
    with pytest.raises(InvalidCsiRequest, match="narrator"):
        await driver.chat(request, CallContext(), split_reasoning=True)
    with pytest.raises(InvalidCsiRequest, match="narrator"):
        await anext(driver.chat_stream(request, CallContext(), split_reasoning=True))
    assert not faulty.received


async def test_a_large_request_arrives(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    text = "ü" * 3_000_000
    request = ChatRequest("tiny", [Message(role="user", content=text)], chat_request().params)
    await driver.chat(request, CallContext(), split_reasoning=True)
    assert faulty.received[0].body["messages"][0]["content"] == text


async def test_connections_are_used_again(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.proper(), scripted.error(400))
    await chat(driver)
    with pytest.raises(UpstreamRejected):
        await chat(driver)
    await events(driver)
    await chat(driver)
    assert len(faulty.connections) == 1


async def test_a_server_without_completions(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.error(404), scripted.error(404))
    completion = CompletionRequest("tiny", "x", CompletionParams())
    with pytest.raises(NotConfigured, match="only supports chat"):
        await driver.complete(completion, CallContext())
    with pytest.raises(NotConfigured, match="only supports chat"):
        await anext(driver.completion_stream(completion, CallContext()))


async def test_there_are_no_explanations(driver: OpenAiDriver) -> None:
    with pytest.raises(NotConfigured, match="no explanations"):
        await driver.explain(ExplanationRequest("a", "b", "tiny", "auto"), CallContext())


@pytest.mark.parametrize("url", ["", "api.example", "ftp://api.example", "http://"])
def test_a_url_must_be_absolute(url: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        OpenAiDriver(url, CallersToken())


# --- answers that are not streamed ------------------------------------------------------------


async def test_an_answer(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.answer(body=message("Hello")))
    response = await chat(driver)
    assert response.message == Message(role="assistant", content="Hello")
    assert response.finish_reason is FinishReason.STOP
    assert response.usage == Usage(prompt=3, completion=5)
    assert response.logprobs == []


@pytest.mark.parametrize("split", [True, False])
async def test_only_what_is_used_must_be_there(
    driver: OpenAiDriver, faulty: FaultyLlm, split: bool
) -> None:
    faulty.will(
        scripted.answer(
            body={
                "choices": [{"message": {"content": "Hi"}, "finish_reason": "length", "new": {}}],
                "service_tier": "unheard-of",
            }
        )
    )
    response = await chat(driver, split=split)
    assert (response.message.role, response.message.content) == ("assistant", "Hi")
    assert response.finish_reason is FinishReason.LENGTH
    assert response.usage == Usage(0, 0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
    ],
)
async def test_finish_reasons(
    driver: OpenAiDriver, faulty: FaultyLlm, name: str, reason: FinishReason
) -> None:
    faulty.will(scripted.answer(body=message("x", finish=name)))
    assert (await chat(driver)).finish_reason is reason


@pytest.mark.parametrize(
    ("fields", "split", "reasoning", "content"),
    [
        ({"content": "c", "reasoning_content": "r"}, True, "r", "c"),
        ({"content": "c", "reasoning": "r"}, True, "r", "c"),
        ({"content": "c", "reasoning_content": "r", "reasoning": "r"}, True, "r", "c"),
        ({"content": "c", "reasoning_content": None, "reasoning": "r"}, True, "r", "c"),
        ({"content": "\n<think>r</think>c"}, True, "r", "c"),
        ({"content": "<think>r"}, True, "r", None),
        ({"content": "<think>x</think>c", "reasoning": "r"}, True, "r", "<think>x</think>c"),
        ({"content": None}, True, None, None),
        ({"content": "<think>r</think>c"}, False, None, "<think>r</think>c"),
        ({"content": "c", "reasoning_content": "r"}, False, None, "c"),
    ],
)
async def test_reasoning(
    driver: OpenAiDriver,
    faulty: FaultyLlm,
    fields: dict[str, Any],
    split: bool,
    reasoning: str | None,
    content: str | None,
) -> None:
    faulty.will(scripted.answer(body=message(**fields)))
    answer = (await chat(driver, split=split)).message
    assert (answer.reasoning_content, answer.content) == (reasoning, content)


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"n":1}'}}


async def test_tool_calls(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.answer(body=message("so", finish="tool_calls", tool_calls=[CALL])))
    response = await chat(driver, tools=[ADD])
    assert response.message.content == "so"
    assert response.message.tool_calls == [ToolCall("c1", "add", '{"n":1}')]


async def test_plain_answers_must_have_content(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.answer(body=message(None)))
    with pytest.raises(EmptyContent):
        await chat(driver, split=False)


@pytest.mark.parametrize("fields", [{"finish": "tool_calls"}, {"tool_calls": [CALL]}])
async def test_plain_answers_must_not_call_tools(
    driver: OpenAiDriver, faulty: FaultyLlm, fields: dict[str, Any]
) -> None:
    faulty.will(scripted.answer(body=message("x", **fields)))
    with pytest.raises(UnexpectedToolCall):
        await chat(driver, split=False)


@pytest.mark.parametrize("options", [{"split": True}, {"split": False, "tools": []}])
async def test_other_answers_may_do_both(
    driver: OpenAiDriver, faulty: FaultyLlm, options: dict[str, Any]
) -> None:
    faulty.will(scripted.answer(body=message(None, finish="tool_calls", tool_calls=[CALL])))
    response = await chat(driver, **options)
    assert response.message.content is None
    assert response.finish_reason is FinishReason.TOOL_CALLS


WIRE_LOGPROBS = {
    "content": [
        {
            "token": "\ufffd",
            "bytes": [240, 159],
            "logprob": -0.12345678901234567,
            "top_logprobs": [
                {"token": "é", "bytes": None, "logprob": -1.5},
                {"token": "b", "logprob": None},
                {"token": "c", "logprob": -3},
            ],
        },
        {"token": "x", "logprob": -1, "top_logprobs": None},
    ]
}


async def test_logprobs_with_the_most_likely_tokens(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    body = message("x")
    body["choices"][0]["logprobs"] = WIRE_LOGPROBS
    faulty.will(scripted.answer(body=body))
    first, second = (await chat(driver, logprobs=TopLogprobs(2))).logprobs
    assert first.sampled == Logprob(b"\xf0\x9f", -0.12345678901234567)
    assert first.top[0] == Logprob("é".encode(), -1.5)
    assert first.top[1].token == b"b"
    assert math.isnan(first.top[1].logprob)
    assert len(first.top) == 2
    assert second == Distribution(Logprob(b"x", -1.0), [])


@pytest.mark.parametrize(("logprobs", "count"), [("sampled", 2), ("no", 0)])
async def test_no_more_logprobs_than_wanted(
    driver: OpenAiDriver, faulty: FaultyLlm, logprobs: str, count: int
) -> None:
    body = message("x")
    body["choices"][0]["logprobs"] = WIRE_LOGPROBS
    faulty.will(scripted.answer(body=body))
    distributions = (await chat(driver, logprobs=logprobs)).logprobs
    assert [distribution.top for distribution in distributions] == [[]] * count


@pytest.mark.parametrize(
    "body",
    [
        "garbage",
        "",
        {},
        {"choices": []},
        {"choices": [{"message": None, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "x"}}]},
        {"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]},
        message("x", finish="tired"),
        message(None, tool_calls=[{"id": "c1"}]),
    ],
    ids=str,
)
async def test_an_answer_that_makes_no_sense(
    driver: OpenAiDriver, faulty: FaultyLlm, body: Any
) -> None:
    faulty.will(scripted.answer(body=body))
    with pytest.raises(BadUpstreamAnswer):
        await chat(driver)


async def test_an_answer_that_is_not_http(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.raw(b"SSH-2.0-OpenSSH_9.7\r\n"))
    with pytest.raises(BadUpstreamAnswer):
        await chat(driver)


async def test_an_error_object_in_a_successful_answer(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    faulty.will(scripted.answer(body={"error": {"message": "x", "code": "model_not_found"}}))
    with pytest.raises(ModelNotFound, match="`tiny`"):
        await chat(driver)


async def test_an_answer_that_is_too_long(
    driver: OpenAiDriver, faulty: FaultyLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream.Answer.read, "__defaults__", (1000,))
    faulty.will(scripted.answer(body=message("x" * 2000)))
    with pytest.raises(BadUpstreamAnswer, match="1000 bytes"):
        await chat(driver)


# --- streams ----------------------------------------------------------------------------------


async def test_a_stream(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.proper(tokens=2))
    assert await events(driver) == [
        MessageBegin("assistant"),
        append("token"),
        append(" token"),
        MessageEnd(FinishReason.STOP),
        UsageEvent(Usage(1, 2)),
    ]


async def test_tokens_come_as_soon_as_they_are_sent(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    faulty.will(scripted.stream_then_hang(sse(BEGIN), sse(chunk({"content": "a"}))))
    stream = opened(driver)
    async with asyncio.timeout(PATIENCE):
        assert await anext(stream) == MessageBegin("assistant")
        assert await anext(stream) == append("a")
    await stream.aclose()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [chunk({"content": "a"}, finish="stop", usage=(1, 2))],
            [append("a"), MessageEnd(FinishReason.STOP), UsageEvent(Usage(1, 2))],
            id="everything in one chunk, no role",
        ),
        pytest.param(
            [chunk({"content": "a"}, usage=(1, 1)), chunk({}, finish="stop", usage=(1, 2))],
            [append("a"), MessageEnd(FinishReason.STOP), UsageEvent(Usage(1, 2))],
            id="usage in every chunk",
        ),
        pytest.param(
            [
                chunk({"role": "assistant", "content": "a"}),
                chunk({"role": "assistant", "content": "b"}),
                chunk({"role": "assistant"}, finish="stop"),
            ],
            [append("a"), append("b"), MessageEnd(FinishReason.STOP)],
            id="role in every chunk, no usage",
        ),
        pytest.param(
            [
                chunk(
                    {
                        "content": "a",
                        "tool_calls": [
                            {"index": 1, "id": "c", "function": {"name": "f", "arguments": "{"}}
                        ],
                    }
                ),
                chunk({"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}),
                chunk(finish="tool_calls"),
            ],
            [
                append("a"),
                ToolCallDelta([ToolCallChunk(1, "c", "f", "{")]),
                ToolCallDelta([ToolCallChunk(1, None, None, "}")]),
                MessageEnd(FinishReason.TOOL_CALLS),
            ],
            id="content and tool call in one chunk",
        ),
        pytest.param(
            [
                chunk({"reasoning_content": "r", "reasoning": "r", "content": "a"}),
                chunk({"reasoning": "s"}),
                chunk(finish="stop"),
            ],
            [Reasoning("r"), append("a"), Reasoning("s"), MessageEnd(FinishReason.STOP)],
            id="both names of reasoning",
        ),
        pytest.param(
            [chunk({"content": text}) for text in ["\n", "<th", "ink>r", "</", "think", ">a<th"]]
            + [chunk({"content": "ink>"}, finish="stop")],
            [Reasoning("r"), append("a<th"), append("ink>"), MessageEnd(FinishReason.STOP)],
            id="tags cut",
        ),
        pytest.param(
            [chunk({"content": "<thi"}), chunk(finish="length")],
            [append("<thi"), MessageEnd(FinishReason.LENGTH)],
            id="what was held back comes before the end",
        ),
        pytest.param(
            [chunk({"content": "a"}), STOP, STOP, chunk({"content": "late"}), chunk(usage=(1, 1))],
            [append("a"), MessageEnd(FinishReason.STOP), UsageEvent(Usage(1, 1))],
            id="one end only",
        ),
        pytest.param(
            [
                {"choices": [], "prompt_filter_results": []},
                {"choices": [{"index": 1, "delta": {"content": "other"}}]},
                chunk({"content": ""}),
                {"choices": [{"delta": {"content": "a"}, "finish_reason": ""}], "usage": None},
                {"choices": [{"index": 0, "finish_reason": "stop"}]},
            ],
            [append("a"), MessageEnd(FinishReason.STOP)],
            id="chunks without a choice, for another choice, without delta",
        ),
    ],
)
@pytest.mark.parametrize("ending", [sse(DONE), b""], ids=["done", "closed"])
async def test_streams_are_normalised(
    driver: OpenAiDriver,
    faulty: FaultyLlm,
    chunks: list[Any],
    expected: list[ChatEvent],
    ending: bytes,
) -> None:
    faulty.will(scripted.stream(sse(*chunks) + ending))
    assert await events(driver, tools=[ADD]) == [MessageBegin("assistant"), *expected]


async def test_without_splitting_reasoning_stays_where_the_model_put_it(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    chunks = [chunk({"reasoning": "r"}), chunk({"content": "<think>s</think>a"}), STOP]
    faulty.will(scripted.stream(sse(*chunks, DONE)))
    assert await events(driver, split=False) == [
        MessageBegin("assistant"),
        append("<think>s</think>a"),
        MessageEnd(FinishReason.STOP),
    ]


async def test_bytes_may_be_cut_anywhere(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    body = sse(BEGIN, chunk({"content": "ü😀"}), STOP, DONE).replace(b"\n", b"\r\n")
    faulty.will(scripted.stream(b": hello\n\n", *(bytes([byte]) for byte in body)))
    assert await events(driver) == [
        MessageBegin("assistant"),
        append("ü😀"),
        MessageEnd(FinishReason.STOP),
    ]


def wire_logprobs(*tokens: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -1.0} for token in tokens]}


def distributions(*tokens: str) -> list[Distribution]:
    return [Distribution(Logprob(token.encode(), -1.0), []) for token in tokens]


async def test_logprobs_go_with_the_text(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(
        scripted.stream(
            sse(
                chunk({"content": "<"}, logprobs=wire_logprobs("<")),
                chunk({"content": "a"}, logprobs=wire_logprobs("a")),
                chunk({"content": ""}, logprobs=wire_logprobs("b")),
                chunk({"content": "bc"}, logprobs=wire_logprobs("c")),
                chunk({}, logprobs=wire_logprobs("d")),
                STOP,
                DONE,
            )
        )
    )
    assert await events(driver, logprobs="sampled") == [
        MessageBegin("assistant"),
        MessageAppend("<a", distributions("<", "a")),
        MessageAppend("bc", distributions("b", "c")),
        MessageAppend("", distributions("d")),
        MessageEnd(FinishReason.STOP),
    ]


async def test_logprobs_of_reasoning_are_dropped(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(
        scripted.stream(
            sse(
                chunk({"content": "<think>r"}, logprobs=wire_logprobs("x")),
                chunk({"content": "</think>a"}, logprobs=wire_logprobs("y")),
                STOP,
                DONE,
            )
        )
    )
    assert await events(driver, logprobs="sampled") == [
        MessageBegin("assistant"),
        Reasoning("r"),
        MessageAppend("a", distributions("y")),
        MessageEnd(FinishReason.STOP),
    ]


@pytest.mark.parametrize(
    "last", [chunk({"tool_calls": [{"index": 0}]}), chunk(finish="tool_calls")]
)
async def test_plain_streams_must_not_call_tools(
    driver: OpenAiDriver, faulty: FaultyLlm, last: Any
) -> None:
    faulty.will(scripted.stream(sse(chunk({"content": "a"}), last, DONE)))
    before = await events_until_error(driver, UnexpectedToolCall, split=False)
    assert before == [MessageBegin("assistant"), append("a")]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (scripted.stream(sse(BEGIN, chunk({"content": "a"}))), BadUpstreamAnswer),
        (scripted.stream(sse(BEGIN, chunk({"content": "a"}), DONE)), BadUpstreamAnswer),
        (scripted.stream_then_reset(sse(BEGIN, chunk({"content": "a"}))), UpstreamUnavailable),
        (scripted.stream(sse(BEGIN, chunk({"content": "a"}), "{garbage")), BadUpstreamAnswer),
        (
            scripted.stream(sse(BEGIN, chunk({"content": "a"})) + b"data: \xff\n\n"),
            BadUpstreamAnswer,
        ),
        (
            scripted.stream(sse(BEGIN, chunk({"content": "a"}), {"error": {"message": "x"}})),
            UpstreamRejected,
        ),
        (
            scripted.stream(
                sse(BEGIN, chunk({"content": "a"}), {**STOP, "error": {"code": 503}}, DONE)
            ),
            UpstreamOverloaded,
        ),
        (
            scripted.stream(sse(BEGIN, chunk({"content": "a"})) + b"event: error\ndata: {}\n\n"),
            UpstreamRejected,
        ),
    ],
    ids=[
        "ends early",
        "done early",
        "reset",
        "garbage",
        "not UTF-8",
        "error object",
        "error beside a choice",
        "error event",
    ],
)
async def test_a_stream_that_fails_gives_its_events_then_the_error(
    driver: OpenAiDriver, faulty: FaultyLlm, behaviour: Any, error: type[CsiError]
) -> None:
    faulty.will(behaviour)
    before = await events_until_error(driver, error)
    assert before == [MessageBegin("assistant"), append("a")]
    assert len(faulty.received) == 1, "a stream that has begun is not tried again"


async def test_a_connection_that_breaks_after_the_end_does_no_harm(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    faulty.will(scripted.stream_then_reset(sse(BEGIN, STOP)))
    assert await events(driver) == [MessageBegin("assistant"), MessageEnd(FinishReason.STOP)]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"message": "x", "code": 429}}, UpstreamOverloaded),
        (message("not streamed"), BadUpstreamAnswer),
        ("text", BadUpstreamAnswer),
    ],
)
async def test_an_answer_that_is_no_stream(
    driver: OpenAiDriver, faulty: FaultyLlm, body: Any, error: type[CsiError]
) -> None:
    faulty.will(scripted.answer(body=body))
    assert await events_until_error(driver, error) == []


# --- failures and retries ---------------------------------------------------------------------

OVERLOADED = scripted.error(503)


@pytest.mark.parametrize(
    "failure",
    [
        scripted.error(429, headers={"Retry-After": "0"}),
        scripted.error(502),
        scripted.error(503),
        scripted.reset(),
    ],
    ids=["429", "502", "503", "reset"],
)
async def test_passing_failures_are_tried_again(
    driver: OpenAiDriver, faulty: FaultyLlm, failure: Any
) -> None:
    faulty.will(failure, failure)
    assert (await chat(driver)).message.content
    faulty.will(failure, failure)
    assert len(await events(driver)) > 2
    assert len(faulty.received) == 6


@pytest.mark.parametrize(
    ("failure", "error", "attempts"),
    [
        (scripted.error(503), UpstreamOverloaded, 3),
        (scripted.error(429, type="insufficient_quota"), UpstreamRejected, 1),
        (scripted.error(500), UpstreamRejected, 1),
        (scripted.error(401, code="invalid_api_key"), UpstreamUnauthorized, 1),
        (scripted.answer(404, {"error": "x", "code": "UNKNOWN_MODEL"}), ModelNotFound, 1),
        (scripted.answer(307, "", {"Location": "https://elsewhere.example"}), UpstreamRejected, 1),
        (scripted.reset(), UpstreamUnavailable, 3),
    ],
)
async def test_failures_that_stay(
    driver: OpenAiDriver, faulty: FaultyLlm, failure: Any, error: type[CsiError], attempts: int
) -> None:
    faulty.default = failure
    with pytest.raises(error):
        await chat(driver)
    assert len(faulty.received) == attempts
    await events_until_error(driver, error)
    assert len(faulty.received) == 2 * attempts


async def test_the_pause_that_the_server_asks_for_is_kept(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    faulty.will(scripted.error(429, headers={"Retry-After": "1"}))
    started = time.monotonic()
    await chat(driver)
    assert time.monotonic() - started >= 1.0


async def test_a_pause_beyond_the_deadline_is_left_to_the_caller(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    faulty.will(scripted.error(429, headers={"Retry-After": "10"}))
    context = CallContext(deadline=time.monotonic() + 5)
    with pytest.raises(UpstreamOverloaded) as failed:
        await chat(driver, context=context)
    assert failed.value.retry_after == 10.0


async def test_the_budget_bounds_retries_over_all_calls(faulty: FaultyLlm) -> None:
    faulty.default = OVERLOADED
    driver = OpenAiDriver(
        faulty.url,
        ConfiguredToken(TOKEN),
        retry_policy=RetryPolicy(attempts=5, base=0.0),
        retry_budget=RetryBudget(ratio=0.2, floor=3.0, floor_per_second=0.0),
    )
    for _ in range(10):
        with pytest.raises(UpstreamOverloaded):
            await chat(driver)
    assert len(faulty.received) == 10 + 3 + 2
    await driver.close()


async def test_a_server_that_is_not_there() -> None:
    driver = OpenAiDriver(
        f"http://127.0.0.1:{unused_port()}",
        ConfiguredToken(TOKEN),
        retry_policy=RetryPolicy(attempts=2, base=0.001),
    )
    with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
        await chat(driver)
    with pytest.raises(UpstreamUnavailable):
        await events(driver)
    await driver.close()


@pytest.mark.parametrize("of_the_call", [True, False])
async def test_a_server_that_hangs(faulty: FaultyLlm, of_the_call: bool) -> None:
    faulty.default = scripted.hang()
    driver = OpenAiDriver(faulty.url, ConfiguredToken(TOKEN), timeout=30 if of_the_call else 0.1)

    def context() -> CallContext:
        return CallContext(deadline=time.monotonic() + (0.1 if of_the_call else 30))

    with pytest.raises(UpstreamTimeout):
        await chat(driver, context=context())
    assert await events_until_error(driver, UpstreamTimeout, context=context()) == []
    await driver.close()


async def test_a_stream_that_hangs(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    faulty.will(scripted.stream_then_hang(sse(BEGIN)))
    context = CallContext(deadline=time.monotonic() + 0.2)
    before = await events_until_error(driver, UpstreamTimeout, context=context)
    assert before == [MessageBegin("assistant")]
    await asyncio.wait_for(faulty.disconnected.wait(), PATIENCE)


async def test_after_the_deadline_nothing_is_sent(driver: OpenAiDriver, faulty: FaultyLlm) -> None:
    context = CallContext(deadline=time.monotonic() - 1)
    with pytest.raises(UpstreamTimeout):
        await chat(driver, context=context)
    with pytest.raises(UpstreamTimeout):
        await events(driver, context=context)
    assert not faulty.received


async def test_details_hide_the_server_and_the_token_but_the_log_has_everything(
    driver: OpenAiDriver, faulty: FaultyLlm, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"At {faulty.url} and 127.0.0.1 with {TOKEN}"
    faulty.will(scripted.answer(400, {"error": {"message": text}}))
    with (
        caplog.at_level(logging.INFO, "pharia_kernel.inference"),
        pytest.raises(CsiError) as failed,
    ):
        await chat(driver)
    shown = json.dumps(failed.value.problem())
    assert TOKEN not in shown
    assert "127.0.0.1" not in shown
    assert "At [url] and [backend] with [token]" in shown
    assert faulty.url in caplog.text


def test_the_configured_token_is_not_in_its_representation() -> None:
    assert "s3cret" not in repr(ConfiguredToken("s3cret"))


# --- cancellation and limits ------------------------------------------------------------------


async def test_closing_a_stream_closes_the_connection(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    faulty.will(scripted.endless_stream(sse(chunk({"content": "a"}))))
    stream = opened(driver)
    await anext(stream)
    await stream.aclose()
    await asyncio.wait_for(faulty.disconnected.wait(), PATIENCE)


async def test_cancelling_a_stream_that_waits_closes_the_connection(
    driver: OpenAiDriver, faulty: FaultyLlm
) -> None:
    faulty.will(scripted.stream_then_hang(sse(BEGIN)))
    stream = opened(driver)
    await anext(stream)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(faulty.disconnected.wait(), PATIENCE)


@pytest.mark.parametrize("streamed", [True, False])
async def test_cancelling_a_call_closes_the_connection(
    driver: OpenAiDriver, faulty: FaultyLlm, streamed: bool
) -> None:
    faulty.will(scripted.hang())
    call = asyncio.create_task(events(driver) if streamed else chat(driver))
    await asyncio.wait_for(faulty.arrived.wait(), PATIENCE)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(faulty.disconnected.wait(), PATIENCE)


async def test_only_so_many_requests_are_at_the_server_at_once(faulty: FaultyLlm) -> None:
    faulty.default = scripted.together(3, scripted.proper())
    driver = OpenAiDriver(faulty.url, ConfiguredToken(TOKEN), max_concurrency=3)
    calls = [chat(driver) for _ in range(9)] + [events(driver) for _ in range(9)]
    await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
    assert len(faulty.received) == 18
    assert faulty.most_active == 3
    await driver.close()


@pytest.mark.parametrize("ending", ["close", "cancel", "error", "refusal"])
async def test_a_place_is_given_back_however_a_call_ends(faulty: FaultyLlm, ending: str) -> None:
    driver = OpenAiDriver(faulty.url, ConfiguredToken(TOKEN), max_concurrency=1)
    if ending == "close":
        faulty.will(scripted.stream_then_hang(sse(BEGIN)))
        stream = opened(driver)
        await anext(stream)
        await stream.aclose()
    elif ending == "cancel":
        faulty.will(scripted.hang())
        call = asyncio.create_task(chat(driver))
        await asyncio.wait_for(faulty.arrived.wait(), PATIENCE)
        call.cancel()
        await asyncio.wait([call])
    elif ending == "error":
        faulty.will(scripted.stream_then_reset(sse(BEGIN)))
        await events_until_error(driver, UpstreamUnavailable)
    else:
        faulty.will(scripted.error(400))
        with pytest.raises(UpstreamRejected):
            await chat(driver)
    await asyncio.wait_for(chat(driver), PATIENCE)
    await driver.close()


async def test_closing_the_driver_ends_calls_in_flight(faulty: FaultyLlm) -> None:
    faulty.default = scripted.hang()
    driver = OpenAiDriver(faulty.url, ConfiguredToken(TOKEN))
    call = asyncio.create_task(chat(driver))
    await asyncio.wait_for(faulty.arrived.wait(), PATIENCE)
    await driver.close()
    with pytest.raises(UpstreamUnavailable):
        await asyncio.wait_for(call, PATIENCE)
    with pytest.raises(UpstreamUnavailable, match="closed"):
        await chat(driver)
    assert len(faulty.received) == 1


async def test_many_calls_at_once(faulty: FaultyLlm) -> None:
    faulty.default = scripted.together(200, scripted.proper())
    driver = OpenAiDriver(faulty.url, ConfiguredToken(TOKEN))
    calls = [chat(driver) for _ in range(200)]
    answers = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
    assert len(answers) == 200
    await driver.close()
