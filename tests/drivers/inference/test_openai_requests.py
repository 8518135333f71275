from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from pharia_kernel.csi.types import (
    ChatRequest,
    Function,
    JsonSchema,
    JsonSchemaFormat,
    Message,
    NamedTool,
    ToolCall,
    TopLogprobs,
)
from pharia_kernel.drivers.inference.openai_requests import encode_chat
from pharia_kernel.errors import InvalidCsiRequest
from tests.drivers.inference.requests import chat_request


def encoded(request: ChatRequest, *, stream: bool = False) -> Any:
    return json.loads(encode_chat(request, stream=stream))


def encoded_message(message: Message) -> Any:
    return encoded(chat_request(message))["messages"][0]


def test_what_is_not_set_is_not_sent() -> None:
    assert encoded(chat_request(Message(role="user", content="Hi"), model="m")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_stream_is_asked_for_with_usage() -> None:
    body = encoded(chat_request(), stream=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_sampling_parameters_keep_their_names_and_precision() -> None:
    params: dict[str, Any] = {
        "max_tokens": 1,
        "max_completion_tokens": 2,
        "temperature": 0.1,
        "top_p": 0.30000000000000004,
        "frequency_penalty": -0.7,
        "presence_penalty": 1e-300,
        "parallel_tool_calls": False,
        "reasoning_effort": "minimal",
    }
    body = encoded(chat_request(**params))
    assert {name: body[name] for name in params} == params


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_refused(value: float) -> None:
    with pytest.raises(InvalidCsiRequest, match="top_p"):
        encode_chat(chat_request(top_p=value), stream=False)


@pytest.mark.parametrize(
    ("logprobs", "sent"),
    [
        ("no", {}),
        ("sampled", {"logprobs": True}),
        (TopLogprobs(0), {"logprobs": True}),
        (TopLogprobs(3), {"logprobs": True, "top_logprobs": 3}),
    ],
)
def test_logprobs(logprobs: Any, sent: dict[str, Any]) -> None:
    body = encoded(chat_request(logprobs=logprobs))
    assert {name: body[name] for name in body if "logprobs" in name} == sent


@pytest.mark.parametrize("role", ["system", "developer", "user", "User", "SYSTEM"])
def test_roles_are_sent_in_lower_case(role: str) -> None:
    message = encoded_message(Message(role=role, content="x"))
    assert message == {"role": role.lower(), "content": "x"}


@pytest.mark.parametrize("role", ["narrator", "", "assistant ", "function"])
def test_an_unsupported_role_is_named(role: str) -> None:
    with pytest.raises(InvalidCsiRequest, match=f"Message 1 .*`{role}`"):
        encode_chat(
            chat_request(Message(role="user", content="x"), Message(role=role, content="x")),
            stream=False,
        )


def test_an_assistant_message_may_hold_tool_calls_only() -> None:
    message = Message(
        role="Assistant", tool_calls=[ToolCall("c1", "add", '{"n":')], reasoning_content="secret"
    )
    assert encoded_message(message) == {
        "role": "assistant",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"n":'}}
        ],
    }


def test_an_empty_list_of_tool_calls_is_left_out() -> None:
    message = encoded_message(Message(role="assistant", content="x", tool_calls=[]))
    assert message == {"role": "assistant", "content": "x"}


def test_a_tool_result_goes_with_the_id_of_its_call() -> None:
    message = encoded_message(Message(role="tool", content="3", tool_call_id="c1"))
    assert message == {"role": "tool", "content": "3", "tool_call_id": "c1"}


@pytest.mark.parametrize("call_id", [None, ""])
def test_a_tool_result_without_an_id_is_sent_as_the_users(call_id: str | None) -> None:
    message = encoded_message(Message(role="tool", content="3", tool_call_id=call_id))
    assert message == {"role": "user", "content": "3"}


@pytest.mark.parametrize("role", ["user", "tool"])
def test_a_message_without_content_is_refused(role: str) -> None:
    with pytest.raises(InvalidCsiRequest, match=f"Message 0 of role `{role}` has no content"):
        encode_chat(chat_request(Message(role=role)), stream=False)


def test_tools() -> None:
    full = Function(
        name="f", description="d", parameters=Raw(b'{"type": "object", "n": 1.50}'), strict=True
    )
    body = encode_chat(chat_request(tools=[full, Function(name="g")]), stream=False)
    assert json.loads(body)["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "n": 1.5},
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "g"}},
    ]
    assert b"1.50" in body, "the author's JSON goes out unchanged"


def test_an_empty_list_of_tools_is_left_out() -> None:
    assert "tools" not in encoded(chat_request(tools=[]))


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
def test_tool_choice(choice: Any) -> None:
    assert encoded(chat_request(tool_choice=choice))["tool_choice"] == choice


def test_tool_choice_by_name() -> None:
    body = encoded(chat_request(tool_choice=NamedTool("add")))
    assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize("wanted", ["text", "json_object"])
def test_response_format(wanted: Any) -> None:
    assert encoded(chat_request(response_format=wanted))["response_format"] == {"type": wanted}


def test_response_format_with_a_schema() -> None:
    wanted = JsonSchemaFormat(JsonSchema(name="s", schema=Raw(b'{"type":"object"}'), strict=False))
    assert encoded(chat_request(response_format=wanted))["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": False},
    }


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b'{} , "model": "other"', b'"\xff"', b"[" * 100_000],
    ids=["empty", "open", "injected", "no-utf8", "deep"],
)
def test_invalid_json_from_a_guest_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidCsiRequest, match="`parameters` of the function `f`"):
        encode_chat(chat_request(tools=[Function(name="f", parameters=Raw(raw))]), stream=False)
    wanted = JsonSchemaFormat(JsonSchema(name="s", schema=Raw(raw)))
    with pytest.raises(InvalidCsiRequest, match="`schema` of the response format `s`"):
        encode_chat(chat_request(response_format=wanted), stream=False)


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InvalidCsiRequest, match="Unicode"):
        encode_chat(chat_request(Message(role="user", content="\ud800")), stream=False)
