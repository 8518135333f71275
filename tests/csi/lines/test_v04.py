from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from pharia_kernel.csi import types
from pharia_kernel.csi.types import FinishReason
from pharia_kernel.errors import UnexpectedToolCall
from tests.csi.lines.support import (
    LOGPROBS,
    LOGPROBS_IN_WIT,
    USAGE,
    USAGE_IN_WIT,
    Reasons,
    asked,
    chat_response,
    completion,
    streamed,
)
from tests.csi.test_guest import CHAT_PARAMS

pytestmark = pytest.mark.parametrize("line", ["0.4.0", "0.5.0"])

COMPLETION: dict[str, Any] = {
    "model": "model",
    "prompt": "prompt",
    "params": {
        "max-tokens": 5,
        "temperature": 0.5,
        "top-k": 3,
        "top-p": 0.9,
        "stop": ["."],
        "return-special-tokens": False,
        "frequency-penalty": 0.1,
        "presence-penalty": 0.2,
        "logprobs": ["top", 2],
        "echo": True,
    },
}


def inference(line: str) -> str:
    return f"pharia:skill/inference@{line}"


def chat(*messages: list[Any], **params: Any) -> dict[str, Any]:
    changed = {name.replace("_", "-"): value for name, value in params.items()}
    return {
        "model": "model",
        "messages": list(messages),
        "params": {**CHAT_PARAMS, **changed},
    }


async def request_of(line: str, init: dict[str, Any]) -> types.ChatRequest:
    _, request, csi = await asked(f"{inference(line)}#chat", [init], answer=chat_response())
    assert csi.split_reasoning == [True]
    assert isinstance(request, types.ChatRequest)
    return request


async def test_messages(line: str) -> None:
    request = await request_of(
        line,
        chat(
            ["other", {"role": "system", "content": "s"}],
            ["other", {"role": "Assistant", "content": "as it is"}],
            [
                "assistant",
                {
                    "content": None,
                    "reasoning-content": None,
                    "tool-calls": [{"id": "1", "name": "add", "arguments": "{not json"}],
                },
            ],
            ["tool", {"content": "3", "tool-call-id": "1"}],
            ["assistant", {"content": "3!", "reasoning-content": None, "tool-calls": None}],
            ["assistant", {"content": "", "reasoning-content": None, "tool-calls": []}],
        ),
    )
    assert request.messages == [
        types.Message(role="system", content="s"),
        types.Message(role="Assistant", content="as it is"),
        types.Message(role="assistant", tool_calls=[types.ToolCall("1", "add", "{not json")]),
        types.Message(role="tool", content="3", tool_call_id="1"),
        types.Message(role="assistant", content="3!"),
        types.Message(role="assistant", content="", tool_calls=[]),
    ]


async def test_nothing_is_asked_for_by_default(line: str) -> None:
    assert (await request_of(line, chat())).params == types.ChatParams()


async def test_numbers_and_flags(line: str) -> None:
    request = await request_of(
        line,
        chat(
            max_tokens=1,
            max_completion_tokens=2,
            temperature=0.1,
            top_p=0.2,
            frequency_penalty=0.3,
            presence_penalty=0.4,
            parallel_tool_calls=False,
        ),
    )
    assert request.params == types.ChatParams(
        max_tokens=1,
        max_completion_tokens=2,
        temperature=0.1,
        top_p=0.2,
        frequency_penalty=0.3,
        presence_penalty=0.4,
        parallel_tool_calls=False,
    )


async def test_functions_keep_their_schema_as_it_is(line: str) -> None:
    functions = [
        {"name": "a", "description": "A", "parameters": b' {"x": 1.0} ', "strict": True},
        {"name": "b", "description": None, "parameters": None, "strict": None},
        {"name": "c", "description": None, "parameters": b"not json", "strict": False},
    ]
    request = await request_of(line, chat(tools=functions))
    assert request.params.tools == [
        types.Function(name="a", description="A", parameters=Raw(b' {"x": 1.0} '), strict=True),
        types.Function(name="b"),
        types.Function(name="c", parameters=Raw(b"not json"), strict=False),
    ]


async def test_no_tools_is_something_else_than_none(line: str) -> None:
    assert (await request_of(line, chat(tools=[]))).params.tools == []


@pytest.mark.parametrize(
    ("case", "choice"),
    [
        (["none", None], "none"),
        (["auto", None], "auto"),
        (["required", None], "required"),
        (["named", "add"], types.NamedTool("add")),
        (["named", "none"], types.NamedTool("none")),
    ],
)
async def test_tool_choice(line: str, case: Any, choice: types.ToolChoice) -> None:
    assert (await request_of(line, chat(tool_choice=case))).params.tool_choice == choice


SCHEMA = {"description": "d", "name": "n", "schema": b"{}", "strict": True}


@pytest.mark.parametrize(
    ("case", "format_"),
    [
        (["text", None], "text"),
        (["json-object", None], "json_object"),
        (
            ["json-schema", SCHEMA],
            types.JsonSchemaFormat(
                types.JsonSchema(name="n", description="d", schema=Raw(b"{}"), strict=True)
            ),
        ),
        (
            ["json-schema", {**SCHEMA, "schema": None, "description": None, "strict": None}],
            types.JsonSchemaFormat(types.JsonSchema(name="n")),
        ),
    ],
)
async def test_response_format(line: str, case: Any, format_: types.ResponseFormat) -> None:
    assert (await request_of(line, chat(response_format=case))).params.response_format == format_


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high"])
async def test_reasoning_effort(line: str, effort: str) -> None:
    assert (await request_of(line, chat(reasoning_effort=effort))).params.reasoning_effort == effort


async def test_chat_response(line: str) -> None:
    answer = chat_response(
        FinishReason.TOOL_CALLS,
        None,
        reasoning_content="hm",
        tool_calls=[types.ToolCall("1", "add", "{}")],
    )
    result, _, _ = await asked(f"{inference(line)}#chat", [chat()], answer=answer)
    assert result == [
        {
            "message": {
                "content": None,
                "reasoning-content": "hm",
                "tool-calls": [{"id": "1", "name": "add", "arguments": "{}"}],
            },
            "finish-reason": "tool-calls",
            "logprobs": LOGPROBS_IN_WIT,
            "usage": USAGE_IN_WIT,
        }
    ]


async def test_plain_chat_response(line: str) -> None:
    result, _, _ = await asked(f"{inference(line)}#chat", [chat()], answer=chat_response())
    message = {"content": "Hi", "reasoning-content": None, "tool-calls": None}
    assert result[0]["message"] == message


@pytest.mark.parametrize(("name", "reason"), [*Reasons, ("tool-calls", FinishReason.TOOL_CALLS)])
async def test_finish_reasons(line: str, name: str, reason: FinishReason) -> None:
    answered, _, _ = await asked(f"{inference(line)}#chat", [chat()], answer=chat_response(reason))
    told, _, _ = await streamed(inference(line), "chat-stream", chat(), [types.MessageEnd(reason)])
    assert answered[0]["finish-reason"] == name
    assert told == [["message-end", name]]


async def test_chat_stream(line: str) -> None:
    events = [
        types.MessageBegin("assistant"),
        types.Reasoning("hm"),
        types.MessageAppend("Hi", LOGPROBS),
        types.ToolCallDelta(
            [types.ToolCallChunk(0, "1", "add", None), types.ToolCallChunk(1, None, None, "{}")]
        ),
        types.MessageEnd(FinishReason.TOOL_CALLS),
        types.UsageEvent(USAGE),
    ]
    got, _, csi = await streamed(inference(line), "chat-stream", chat(), events)
    assert got == [
        ["message-begin", "assistant"],
        ["reasoning", "hm"],
        ["message-append", {"content": "Hi"}],
        [
            "tool-call",
            [
                {"index": 0, "id": "1", "name": "add", "arguments": None},
                {"index": 1, "id": None, "name": None, "arguments": "{}"},
            ],
        ],
        ["message-end", "tool-calls"],
        ["usage", USAGE_IN_WIT],
    ]
    assert csi.split_reasoning == [True]


async def test_complete_with_echo(line: str) -> None:
    _, request, _ = await asked(f"{inference(line)}#complete", [COMPLETION], answer=completion())
    assert request == types.CompletionRequest(
        "model",
        "prompt",
        types.CompletionParams(
            return_special_tokens=False,
            max_tokens=5,
            temperature=0.5,
            top_k=3,
            top_p=0.9,
            stop=["."],
            frequency_penalty=0.1,
            presence_penalty=0.2,
            logprobs=types.TopLogprobs(2),
            echo=True,
        ),
    )


async def test_completion_stream_can_echo(line: str) -> None:
    events = [types.CompletionAppend("a", []), types.UsageEvent(USAGE)]
    got, request, _ = await streamed(inference(line), "completion-stream", COMPLETION, events)
    assert got == [["append", {"text": "a", "logprobs": []}], ["usage", USAGE_IN_WIT]]
    assert request.params.echo


@pytest.mark.parametrize("stream", ["chat-stream", "completion-stream"])
async def test_usage_is_only_told_if_the_backend_does(line: str, stream: str) -> None:
    init = chat() if stream == "chat-stream" else COMPLETION
    assert (await streamed(inference(line), stream, init, []))[0] == []


async def test_completion_can_not_call_tools(line: str) -> None:
    answer = completion(FinishReason.TOOL_CALLS)
    with pytest.raises(UnexpectedToolCall):
        await asked(f"{inference(line)}#complete", [COMPLETION], answer=answer)
