"""The driver against a real server: llama.cpp with a tiny random model."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator

import pytest
from msgspec import Raw

from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    FinishReason,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    ToolCall,
    ToolCallDelta,
    TopLogprobs,
    UsageEvent,
)
from pharia_kernel.drivers.inference.credentials import CallersToken, ConfiguredToken
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.errors import UpstreamRejected, UpstreamUnauthorized
from tests.drivers.inference.requests import ADD, chat_request
from tests.support.llm import Llm

CONTEXT = CallContext()


@pytest.fixture
async def driver(llm: Llm) -> AsyncGenerator[OpenAiDriver, None]:
    driver = OpenAiDriver(llm.url, ConfiguredToken(llm.token))
    yield driver
    await driver.close()


async def collect(stream: AsyncGenerator[ChatEvent, None]) -> list[ChatEvent]:
    return [event async for event in stream]


def text(events: list[ChatEvent]) -> str:
    return "".join(event.content for event in events if isinstance(event, MessageAppend))


@pytest.mark.parametrize("split", [True, False])
async def test_chat(driver: OpenAiDriver, split: bool) -> None:
    request = chat_request(max_tokens=20, temperature=0.0)
    response = await driver.chat(request, CONTEXT, split_reasoning=split)
    assert response.message.role == "assistant"
    assert response.message.content
    assert response.finish_reason is FinishReason.LENGTH
    assert response.usage.prompt > 10
    assert response.usage.completion == 20
    assert response.logprobs == []


@pytest.mark.parametrize("split", [True, False])
async def test_a_stream_says_the_same_as_a_whole_answer(driver: OpenAiDriver, split: bool) -> None:
    request = chat_request(max_tokens=20, temperature=0.0)
    whole = await driver.chat(request, CONTEXT, split_reasoning=split)
    events = await collect(driver.chat_stream(request, CONTEXT, split_reasoning=split))
    assert events[0] == MessageBegin("assistant")
    assert events[-2:] == [MessageEnd(FinishReason.LENGTH), UsageEvent(whole.usage)]
    assert all(isinstance(event, MessageAppend) for event in events[1:-2])
    assert len(events) > 10
    assert text(events) == whole.message.content


async def test_logprobs(driver: OpenAiDriver) -> None:
    request = chat_request(max_tokens=5, temperature=0.0, logprobs=TopLogprobs(3))
    response = await driver.chat(request, CONTEXT, split_reasoning=True)
    assert len(response.logprobs) == 5
    content = (response.message.content or "").encode()
    assert b"".join(each.sampled.token for each in response.logprobs) == content
    for each in response.logprobs:
        assert len(each.top) == 3
        assert each.top[0].logprob >= each.top[2].logprob
        assert each.sampled.logprob < 0
        assert math.exp(each.sampled.logprob) > 0


async def test_logprobs_of_sampled_tokens_in_a_stream(driver: OpenAiDriver) -> None:
    request = chat_request(max_tokens=5, logprobs="sampled")
    events = await collect(driver.chat_stream(request, CONTEXT, split_reasoning=True))
    sampled = [
        each for event in events if isinstance(event, MessageAppend) for each in event.logprobs
    ]
    assert b"".join(each.sampled.token for each in sampled).decode() == text(events)
    assert all(each.top == [] for each in sampled)


async def test_a_tool_call_and_its_result(driver: OpenAiDriver) -> None:
    request = chat_request(
        tools=[ADD], tool_choice="required", parallel_tool_calls=False, max_tokens=2000
    )
    response = await driver.chat(request, CONTEXT, split_reasoning=True)
    assert response.finish_reason is FinishReason.TOOL_CALLS
    assert response.message.tool_calls
    [call] = response.message.tool_calls
    assert call.name == "add"
    assert json.loads(call.arguments)["n"] in (1, 2)

    history = [
        Message(role="user", content="Add."),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", content="3", tool_call_id=call.id),
    ]
    answer = await driver.chat(chat_request(*history, max_tokens=5), CONTEXT, split_reasoning=False)
    assert answer.message.content


async def test_a_streamed_tool_call(driver: OpenAiDriver) -> None:
    request = chat_request(
        tools=[ADD], tool_choice="required", parallel_tool_calls=False, max_tokens=2000
    )
    events = await collect(driver.chat_stream(request, CONTEXT, split_reasoning=True))
    chunks = [
        chunk for event in events if isinstance(event, ToolCallDelta) for chunk in event.tool_calls
    ]
    arguments = "".join(chunk.arguments or "" for chunk in chunks)
    assert ToolCall(chunks[0].id or "", chunks[0].name or "", arguments).name == "add"
    assert json.loads(arguments)["n"] in (1, 2)
    assert MessageEnd(FinishReason.TOOL_CALLS) in events


async def test_json_that_fits_a_schema(driver: OpenAiDriver) -> None:
    schema = Raw(b'{"type":"object","properties":{"n":{"enum":[1,2]}},"required":["n"]}')
    request = chat_request(
        response_format=JsonSchemaFormat(JsonSchema(name="n", schema=schema, strict=True)),
        max_tokens=1000,
    )
    response = await driver.chat(request, CONTEXT, split_reasoning=False)
    assert response.finish_reason is FinishReason.STOP
    assert json.loads(response.message.content or "")["n"] in (1, 2)


async def test_a_tool_result_of_the_prompt_text_protocol(driver: OpenAiDriver) -> None:
    history = [
        Message(role="system", content="Environment: ipython"),
        Message(role="user", content="Add."),
        Message(role="assistant", content="<|python_tag|>{}"),
        Message(role="tool", content='completed[stdout]:{"result": 3}[/stdout]'),
    ]
    response = await driver.chat(
        chat_request(*history, max_tokens=5), CONTEXT, split_reasoning=False
    )
    assert response.message.content


async def test_a_wrong_token(llm: Llm) -> None:
    driver = OpenAiDriver(llm.url, CallersToken())
    context = CallContext(token="wrong")
    with pytest.raises(UpstreamUnauthorized):
        await driver.chat(chat_request(), context, split_reasoning=True)
    with pytest.raises(UpstreamUnauthorized):
        await collect(driver.chat_stream(chat_request(), context, split_reasoning=True))
    await driver.close()


async def test_a_request_that_the_server_refuses(driver: OpenAiDriver) -> None:
    request = chat_request(Message(role="user", content="x" * 20_000))
    with pytest.raises(UpstreamRejected, match="context") as refused:
        await driver.chat(request, CONTEXT, split_reasoning=True)
    assert refused.value.problem()["upstream_status"] == 400


async def test_many_at_once(driver: OpenAiDriver) -> None:
    request = chat_request(max_tokens=10)
    responses = await asyncio.gather(
        *(driver.chat(request, CONTEXT, split_reasoning=True) for _ in range(20))
    )
    assert all(response.usage.completion == 10 for response in responses)
