"""Requests of the chat API as inputs of skills, and what skills say as answers."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from pharia_kernel.errors import BadRequest, InvalidNamespace
from pharia_kernel.shell.openai.chats import Answer, ChatRequest, finish_reason, text_of
from pharia_kernel.skills.chat import ChatInput
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    MessageAppend,
    MessageBegin,
    Reasoning,
    SkillKind,
    SkillMetadata,
)

HI = {"role": "user", "content": "Hi"}


def metadata(schema: Any) -> SkillMetadata:
    raw = Raw(json.dumps(schema).encode())
    return SkillMetadata(None, "0.4", SkillKind.MESSAGE_STREAM, raw, None)


def read(**fields: Any) -> ChatRequest:
    given = {"model": "dev/chat", "messages": [HI], **fields}
    return ChatRequest.read(json.dumps(given).encode())


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("[]", BadRequest),
        ('{"model": "dev/chat", "messages": [], "seed": 1e999}', BadRequest),
        *(
            (f'{{"model": "dev/chat", "messages": {"[" * depth + "]" * depth}}}', BadRequest)
            for depth in (250, 15_000, 100_000)
        ),
        ("{}", BadRequest),
        ('{"model": "dev/chat", "messages": "Hi"}', BadRequest),
        ('{"model": "gpt", "messages": []}', BadRequest),
        ('{"messages": []}', BadRequest),
        ('{"model": "Dev/chat", "messages": []}', InvalidNamespace),
    ],
)
def test_requests_that_are_none(body: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ChatRequest.read(body.encode())


def test_the_model_is_a_skill() -> None:
    assert read().skill == SkillPath("dev", "chat")
    assert not read().stream
    assert read(stream=True).stream


def test_only_what_the_skill_knows_is_passed_on() -> None:
    schema = {"type": "object", "properties": {"messages": {}, "temperature": {}, "model": {}}}
    request = read(temperature=0.5, top_p=1, stream=True, tools=[])
    passed = json.loads(request.input(metadata(schema)))
    assert passed == {"messages": [HI], "temperature": 0.5}
    assert json.loads(request.input(None)) == {"messages": [HI]}


def test_a_schema_behind_a_reference_is_found() -> None:
    schema = msgspec.json.schema(ChatInput)
    assert "$ref" in schema
    schema["$defs"]["ChatInput"]["properties"]["user"] = {"type": "string"}
    assert json.loads(read(user="u").input(metadata(schema))) == {"messages": [HI], "user": "u"}


def test_parts_that_are_texts_are_one_text() -> None:
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    image = [texts[0], {"type": "image_url", "image_url": {"url": "data:,"}}]
    request = read(messages=[{"role": "user", "content": parts} for parts in (texts, image)])
    contents = [message["content"] for message in json.loads(request.input(None))["messages"]]
    assert contents == ["ab", image]


def test_messages_are_kept_apart() -> None:
    answer = Answer(SkillPath("dev", "chat"))
    events: list[MessageBegin | MessageAppend | Reasoning] = [
        MessageBegin(),
        Reasoning("hm"),
        MessageAppend("One"),
        MessageBegin(),
        MessageAppend("Two"),
    ]
    deltas = [answer.delta(event) for event in events]
    assert deltas == [
        {},
        {"reasoning_content": "hm"},
        {"content": "One"},
        {"content": "\n\n"},
        {"content": "Two"},
    ]
    message = answer.whole(deltas, "stop")["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "One\n\nTwo", "reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"null", "stop"),
        (b'"length"', "length"),
        (b'{"finish_reason":"content_filter"}', "content_filter"),
        (b'"whatever"', "stop"),
        (b"[1]", "stop"),
        (b"1e999", "stop"),
    ],
)
def test_finish_reasons(payload: bytes, reason: str) -> None:
    assert finish_reason(Raw(payload)) == reason


def test_what_functions_return_is_text() -> None:
    assert (text_of(b'"Hi"'), text_of(b'{"a":1}')) == ("Hi", '{"a":1}')
    assert text_of(b'{"a":1e999}') == '{"a":1e999}'
