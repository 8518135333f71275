"""Reading model streams, writing messages, and the tool loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pharia_kernel_sdk import (
    ChatParams,
    ChatStreamResponse,
    FinishReason,
    InvokeRequest,
    Message,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    Role,
    TokenUsage,
    Tool,
    ToolCall,
    ToolError,
    ToolOutput,
    ToolResult,
)
from pharia_kernel_sdk.csi import inference
from pharia_kernel_sdk.csi.inference import ToolCallChunk, ToolCallEvent
from pharia_kernel_sdk.streaming import StreamOrderError
from pharia_kernel_sdk.testing import MessageRecorder, StubCsi
from pharia_kernel_sdk.testing.stub import ScriptedChatStream

BEGIN = inference.MessageBegin("assistant")


def text(content: str) -> inference.MessageAppend:
    return inference.MessageAppend(content)


def answer(*contents: str) -> ScriptedChatStream:
    return ScriptedChatStream(
        [BEGIN, *map(text, contents), FinishReason.STOP, TokenUsage(1, len(contents))]
    )


def calls(*names_and_arguments: tuple[str, str]) -> ScriptedChatStream:
    """Tool calls whose arguments come in two pieces."""
    events: list[Any] = [BEGIN, Reasoning("hm")]
    for i, (name, arguments) in enumerate(names_and_arguments):
        events.append(ToolCallEvent([ToolCallChunk(i, f"id{i}", name, arguments[:3])]))
        events.append(ToolCallEvent([ToolCallChunk(i, arguments=arguments[3:])]))
    return ScriptedChatStream([*events, FinishReason.TOOL_CALLS, TokenUsage(1, 1)])


def test_a_stream_has_text_reason_and_usage() -> None:
    with answer("a", "b") as response:
        assert response.role == "assistant"
        assert [append.content for append in response.stream()] == ["a", "b"]
        assert response.finish_reason() is FinishReason.STOP
        assert response.usage() == TokenUsage(1, 2)


def test_reason_and_usage_can_be_asked_for_at_once() -> None:
    assert answer("a").usage() == TokenUsage(1, 1)
    assert answer("a").finish_reason() is FinishReason.STOP


def test_a_provider_need_not_report_usage() -> None:
    response = ScriptedChatStream([BEGIN, FinishReason.STOP])
    assert response.finish_reason() is FinishReason.STOP
    with pytest.raises(ValueError, match="does not report it"):
        response.usage()


def test_a_stream_that_begins_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with a message"):
        ScriptedChatStream([text("a")])


def test_looking_for_tool_calls_loses_nothing() -> None:
    response = answer("a", "b")
    assert response.tool_calls() == []
    assert response.tool_call() is None
    assert response.consume_message() == Message.assistant("ab")


def test_tool_calls_are_put_together() -> None:
    response = calls(("add", '{"a": 1}'), ("subtract", '{"b": 2}'))
    expected = [ToolCall("id0", "add", '{"a": 1}'), ToolCall("id1", "subtract", '{"b": 2}')]
    assert response.tool_calls() == expected
    assert response.tool_call() == expected[0]
    message = response.consume_message()
    assert message == Message(Role.Assistant, "", reasoning_content="hm", tool_calls=expected)
    assert response.finish_reason() is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("arguments", ["{", "[]"])
def test_arguments_that_are_no_object_say_so(arguments: str) -> None:
    with pytest.raises(ValueError, match="The model called `add` with"):
        _ = ToolCall("1", "add", arguments).parameters


# --- the tool loop


class Kernel(StubCsi):
    """A model that says what it is told to, and two tools."""

    def __init__(self, *turns: ChatStreamResponse) -> None:
        self.turns = list(turns)
        self.conversations: list[list[Message]] = []
        self.params: list[ChatParams] = []

    def _chat_stream(
        self, model: str, messages: list[Message], params: ChatParams
    ) -> ChatStreamResponse:
        self.conversations.append(list(messages))
        self.params.append(params)
        return self.turns.pop(0)

    def list_tools(self) -> list[Tool]:
        return [Tool("add", "Adds.", {"type": "object"}), Tool("fail")]

    def invoke_tool_concurrent(self, requests: Sequence[InvokeRequest]) -> list[ToolResult]:
        return [
            ToolError("out of cheese")
            if request.name == "fail"
            else ToolOutput([str(sum(request.arguments.values()))])
            for request in requests
        ]


def test_tools_are_called_until_the_model_answers() -> None:
    csi = Kernel(calls(("add", '{"a": 1, "b": 2}'), ("fail", "{}"), ("add", "{")), answer("3"))
    messages = [Message.user("1 + 2?")]
    response = csi.chat_stream("m", messages, ChatParams(max_tokens=9), ["add", "fail"])
    assert response.consume_message().content == "3"
    assert messages == [Message.user("1 + 2?")]
    _, turn, *results = csi.conversations[1]
    assert turn.tool_calls is not None and len(turn.tool_calls) == 3
    assert results[:2] == [
        Message.tool("3", "id0"),
        Message.tool('{"error": "out of cheese"}', "id1"),
    ]
    assert "not JSON" in results[2].content
    assert [tool.name for tool in csi.params[0].tools or []] == ["add", "fail"]
    assert csi.params[0].max_tokens == 9


def test_a_model_can_not_call_tools_forever() -> None:
    csi = Kernel(*(calls(("add", "{}")) for _ in range(3)))
    response = csi.chat_stream("m", [Message.user("go")], tools=["add"], max_turns=3)
    with response, pytest.raises(ToolError, match=r"still calls tools \(add\)"):
        response.consume_message()
    assert len(csi.conversations) == 3


def test_what_a_model_says_before_it_calls_tools_is_heard() -> None:
    turn = ScriptedChatStream(
        [
            BEGIN,
            text("Let me see. "),
            ToolCallEvent([ToolCallChunk(0, "id", "add", '{"a": 1}')]),
            FinishReason.TOOL_CALLS,
            TokenUsage(3, 5),
        ]
    )
    csi = Kernel(turn, answer("It is 1."))
    with csi.chat_stream("m", [Message.user("go")], tools=["add"]) as response:
        assert [a.content for a in response.stream()] == ["Let me see. ", "It is 1."]
        assert response.finish_reason() is FinishReason.STOP
        assert response.usage() == TokenUsage(4, 6)
        assert response.tool_calls() == []
    (_, said, result) = csi.conversations[1]
    assert (said.content, result.content) == ("Let me see. ", "1")


def test_calls_behind_text_are_known_after_reading() -> None:
    chunk = ToolCallChunk(0, "id", "add", "{}")
    response = ScriptedChatStream([BEGIN, text("a"), ToolCallEvent([chunk]), FinishReason.STOP])
    assert response.tool_calls() == []
    assert [append.content for append in response.stream()] == ["a"]
    assert response.tool_calls() == [ToolCall("id", "add", "{}")]


def test_unknown_tools_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no tool named rm\. It has: add, fail"):
        Kernel().chat_stream("m", [Message.user("go")], tools=["rm"])


def test_a_failed_tool_raises() -> None:
    with pytest.raises(ToolError, match="out of cheese"):
        Kernel().invoke_tool("fail")
    assert Kernel().invoke_tool("add", a=1, b=1).as_message("x") == Message.tool("2", "x")


# --- writing


def test_forwarding_keeps_reasoning_and_makes_the_payload_last() -> None:
    recorder = MessageRecorder[str]()
    response = ScriptedChatStream([BEGIN, Reasoning("hm"), text("a"), FinishReason.LENGTH])
    recorder.forward_response(response, lambda r: r.finish_reason().value)
    assert recorder.items == [
        MessageBegin("assistant"), Reasoning("hm"), MessageAppend("a"), MessageEnd("length"),
    ]  # fmt: skip
    (message,) = recorder.messages()
    assert (message.role, message.content, message.reasoning_content) == ("assistant", "a", "hm")


def test_a_completion_is_forwarded_too() -> None:
    recorder = MessageRecorder[None]()
    recorder.forward_response(StubCsi().completion_stream("m", "ab"))
    assert recorder.messages()[0].content == "ab"


@pytest.mark.parametrize(
    "items",
    [
        [MessageAppend("a")],
        [MessageEnd(None)],
        [Reasoning("a")],
        [MessageBegin(), MessageBegin()],
        [MessageBegin(), MessageEnd(None), MessageAppend("a")],
        [MessageBegin(), MessageEnd(None), MessageEnd(None)],
    ],
)
def test_the_recorder_refuses_what_the_kernel_refuses(items: list[Any]) -> None:
    recorder = MessageRecorder[Any]()
    for item in items[:-1]:
        recorder.write(item)
    with pytest.raises(StreamOrderError):
        recorder.write(items[-1])


def test_payloads_have_to_be_json() -> None:
    recorder = MessageRecorder[Any]()
    recorder.begin_message()
    with pytest.raises(TypeError):
        recorder.end_message(b"bytes")
