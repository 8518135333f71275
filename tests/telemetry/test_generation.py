from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import jsonschema_rs
import pytest

from pharia_kernel.csi import types
from pharia_kernel.csi.types import (
    CallContext,
    ChatParams,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionParams,
    CompletionRequest,
    FinishReason,
    Message,
    ToolCall,
    Usage,
)
from pharia_kernel.errors import UpstreamTimeout
from pharia_kernel.telemetry import generation, names, tracing
from pharia_kernel.telemetry.calls import Call, streamed
from pharia_kernel.telemetry.generation import MAX_CONTENT, Generation
from tests.telemetry.support import Exported, exporting, sample

CONTEXT = CallContext(namespace="dev", skill="dev/greet", run_id="r")
USAGE = Usage(3, 5)
Json = Any

PART = {
    "oneOf": [
        {"required": ["type", "content"], "properties": {"type": {"enum": ["text", "reasoning"]}}},
        {"required": ["type", "name"], "properties": {"type": {"const": "tool_call"}}},
        {
            "required": ["type", "response"],
            "properties": {"type": {"const": "tool_call_response"}},
        },
    ]
}
MESSAGES = {
    "type": "array",
    "items": {"required": ["role", "parts"], "properties": {"parts": {"items": PART}}},
}
"""What the JSON schemas of the semantic conventions say of the parts that we use."""


@pytest.fixture
def exported() -> Iterator[Exported]:
    with exporting() as spans, tracing.Request("root", {}):
        yield spans


@pytest.fixture
def captured(exported: Exported) -> Iterator[Exported]:
    generation.capture_content(True)
    yield exported
    generation.capture_content(False)


def chat(*messages: Message, **params: Json) -> ChatRequest:
    return ChatRequest("m", list(messages), ChatParams(**params))


def user(text: str = "hello") -> Message:
    return Message(role="user", content=text)


def answer(message: Message, reason: FinishReason = FinishReason.STOP) -> ChatResponse:
    return ChatResponse(message, reason, [], USAGE)


def chatted(request: ChatRequest, response: ChatResponse) -> None:
    with Generation("chat", request, CONTEXT) as call:
        call.answered(response)


def content(span: tracing.Recorded, key: str) -> Json:
    messages = json.loads(str(span.attributes[key]))
    jsonschema_rs.validate(MESSAGES, messages)
    return messages


async def events_of(call: Generation, *events: Json, error: Exception | None = None) -> None:
    async def source() -> AsyncGenerator[Json, None]:
        for event in events:
            yield event
        if error:
            raise error

    begun: tuple[Call, AsyncGenerator[Json, None]] = (call, source())
    async for _ in streamed(lambda: begun):
        pass


# --- attributes -----------------------------------------------------------------------------------


def test_what_is_asked_and_answered(exported: Exported) -> None:
    request = chat(
        user(),
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.25,
        frequency_penalty=-1.0,
        presence_penalty=1.0,
        reasoning_effort="low",
        response_format="json_object",
    )
    with Generation("chat", request, CONTEXT) as call:
        generation.asked("openai", "backend", 443)
        generation.answered_with(b'{"id": "a1", "model": "m-2024", "choices": [{}]}')
        call.answered(answer(Message(role="assistant", content="hi")))
    span = exported["chat"]
    assert span.kind == "client"
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.25,
        "gen_ai.request.frequency_penalty": -1.0,
        "gen_ai.request.presence_penalty": 1.0,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.output.type": "json",
        "gen_ai.response.id": "a1",
        "gen_ai.response.model": "m-2024",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "backend",
        "server.port": 443,
    }


def test_completions(captured: Exported) -> None:
    params = CompletionParams(max_tokens=4, top_k=2, stop=["x"])
    with Generation("complete", CompletionRequest("m", "Once", params), CONTEXT) as call:
        call.answered(Completion(" upon", FinishReason.LENGTH, [], USAGE))
    span = captured["text_completion"]
    assert span.attributes[names.REQUEST_TOP_K] == 2
    assert span.attributes[names.REQUEST_STOP] == ["x"]
    (prompt,) = content(span, names.INPUT_MESSAGES)
    assert prompt == {"role": "user", "parts": [{"type": "text", "content": "Once"}]}
    (text,) = content(span, names.OUTPUT_MESSAGES)
    assert text["parts"] == [{"type": "text", "content": " upon"}]
    assert text["finish_reason"] == "length"


@pytest.mark.parametrize("text", [b"", b"not json", b"[]", b'{"id": 1}', b"\xff"])
def test_answers_that_say_nothing_of_the_model(exported: Exported, text: bytes) -> None:
    with Generation("chat", chat(user()), CONTEXT):
        generation.answered_with(text)
    assert names.RESPONSE_MODEL not in exported["chat"].attributes


def test_tokens_are_counted_for_skill_and_model() -> None:
    labels = {"model": "m", "namespace": "dev", "name": "greet"}
    before = [
        sample("kernel_inference_tokens_total", **labels, direction=direction)
        for direction in ("input", "output")
    ]
    chatted(chat(user()), answer(Message(role="assistant", content="hi")))
    after = [
        sample("kernel_inference_tokens_total", **labels, direction=direction)
        for direction in ("input", "output")
    ]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 5]


# --- streams --------------------------------------------------------------------------------------


async def test_a_stream(captured: Exported) -> None:
    calls = [types.ToolCallChunk(0, "c1", "add", '{"a"'), types.ToolCallChunk(0, None, None, ":1}")]
    await events_of(
        Generation("chat_stream", chat(user()), CONTEXT, stream=True),
        types.MessageBegin("assistant"),
        types.Reasoning("Let "),
        types.Reasoning("me"),
        types.MessageAppend("to", []),
        types.MessageAppend("ken", []),
        types.ToolCallDelta(calls[:1]),
        types.ToolCallDelta(calls[1:]),
        types.MessageEnd(FinishReason.TOOL_CALLS),
        types.UsageEvent(USAGE),
    )
    span = captured["chat"]
    assert span.attributes[names.REQUEST_STREAM] is True
    assert span.attributes[names.FINISH_REASONS] == ["tool_calls"]
    assert span.attributes[names.OUTPUT_TOKENS] == 5
    assert float(str(span.attributes[names.TIME_TO_FIRST_CHUNK])) >= 0
    (message,) = content(span, names.OUTPUT_MESSAGES)
    assert message["parts"] == [
        {"type": "reasoning", "content": "Let me"},
        {"type": "text", "content": "token"},
        {"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}},
    ]
    assert message["finish_reason"] == "tool_call"


async def test_a_stream_that_fails(captured: Exported) -> None:
    labels = {"function": "chat_stream", "model": "m", "code": "upstream_timeout"}
    before = sample("kernel_csi_errors_total", **labels)
    with pytest.raises(UpstreamTimeout):
        await events_of(
            Generation("chat_stream", chat(user()), CONTEXT, stream=True),
            types.MessageAppend("half", []),
            error=UpstreamTimeout("x"),
        )
    span = captured["chat"]
    assert span.failed and span.attributes[names.ERROR_TYPE] == "upstream_timeout"
    (message,) = content(span, names.OUTPUT_MESSAGES)
    assert message["finish_reason"] == "error"
    assert sample("kernel_csi_errors_total", **labels) == before + 1


async def test_a_stream_that_nobody_reads_to_its_end(exported: Exported) -> None:
    async def endless() -> AsyncGenerator[Json, None]:
        while True:
            yield types.MessageAppend("x", [])

    call = Generation("chat_stream", chat(user()), CONTEXT, stream=True)
    begun: tuple[Call, AsyncGenerator[Json, None]] = (call, endless())
    events = streamed(lambda: begun)
    await anext(events)
    await events.aclose()
    assert exported["chat"].attributes[names.ERROR_TYPE] == "cancelled"
    assert not exported["chat"].failed


async def test_a_stream_that_nobody_begins_leaves_no_span(exported: Exported) -> None:
    def begin() -> tuple[Call, AsyncGenerator[Json, None]]:
        raise AssertionError("nobody asked for an event")

    await streamed(begin).aclose()
    assert exported.spans == []


# --- content --------------------------------------------------------------------------------------


def test_content_is_only_captured_if_that_is_wanted(exported: Exported) -> None:
    chatted(chat(user("secret")), answer(Message(role="assistant", content="secret")))
    assert "secret" not in repr(exported["chat"].attributes)


def test_a_conversation(captured: Exported) -> None:
    call = ToolCall("c1", "add", '{"a": 1}')
    chatted(
        chat(
            Message(role="system", content="Be kind."),
            user("hi"),
            Message(role="assistant", content=None, tool_calls=[call]),
            Message(role="tool", content="2", tool_call_id="c1"),
        ),
        answer(
            Message(
                role="assistant",
                content="done",
                reasoning_content="hm",
                tool_calls=[ToolCall("c2", "add", "{broken")],
            ),
            FinishReason.TOOL_CALLS,
        ),
    )
    span = captured["chat"]
    assert content(span, names.INPUT_MESSAGES) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]},
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}}],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": "2"}],
        },
    ]
    (message,) = content(span, names.OUTPUT_MESSAGES)
    assert [part["type"] for part in message["parts"]] == ["reasoning", "text", "tool_call"]
    assert message["parts"][2]["arguments"] == "{broken"


def test_long_conversations_are_cut_at_their_beginning(captured: Exported) -> None:
    half = "x" * (MAX_CONTENT // 2)
    chatted(
        chat(user("first"), user("a" + half), user("b" + half)),
        answer(Message(role="assistant", content="y" * (2 * MAX_CONTENT))),
    )
    span = captured["chat"]
    texts = [m["parts"][0]["content"] for m in content(span, names.INPUT_MESSAGES)]
    assert [text[0] for text in texts] == ["a", "b"]
    assert sum(map(len, texts)) <= MAX_CONTENT + 1
    (message,) = content(span, names.OUTPUT_MESSAGES)
    assert len(message["parts"][0]["content"]) == MAX_CONTENT + 1


async def test_long_streams_are_cut(captured: Exported) -> None:
    piece = types.MessageAppend("x" * 1000, [])
    count = MAX_CONTENT // 1000 + 10
    await events_of(Generation("chat_stream", chat(user()), CONTEXT, stream=True), *[piece] * count)
    (message,) = content(captured["chat"], names.OUTPUT_MESSAGES)
    assert len(message["parts"][0]["content"]) == MAX_CONTENT
