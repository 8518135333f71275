"""Chat completions as inputs of skills, and what skills stream as answers.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from pharia_kernel.errors import BadRequest
from pharia_kernel.shell.gathering import value_of
from pharia_kernel.skills.nesting import MAX_DEPTH, is_too_deep
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import MessageAppend, MessageBegin, Reasoning, SkillMetadata

MESSAGES = "messages"
_NOT_PASSED = {"model", "stream", "stream_options"}
"""Of a request; these are between the client and this API."""
_BETWEEN_MESSAGES = "\n\n"
_FINISH_REASONS = frozenset({"stop", "length", "content_filter", "tool_calls"})


class ChatRequest(Struct, frozen=True):
    """What this API reads of a request; ``fields`` has all of it."""

    skill: SkillPath
    stream: bool
    fields: dict[str, Any]

    @classmethod
    def read(cls, body: bytes) -> ChatRequest:
        """Of a body that is JSON. Raises ``BadRequest`` or ``InvalidNamespace``."""
        try:
            fields = msgspec.json.decode(body)
        except (msgspec.ValidationError, RecursionError) as error:  # or a number beyond Python's
            raise BadRequest(f"The body can't be read: {error}.") from None
        if is_too_deep(fields):
            raise BadRequest(f"The body is nested too deeply; {MAX_DEPTH} levels are allowed.")
        if not isinstance(fields, dict) or not isinstance(fields.get(MESSAGES), list):
            raise BadRequest(f"A chat completion needs an object with a list of `{MESSAGES}`.")
        namespace, separator, name = str(fields.get("model", "")).partition("/")
        if not separator:
            raise BadRequest(
                f"`model` must be the path of a skill, such as `dev/chat`, not `{namespace[:100]}`."
            )
        return cls(SkillPath.parse(namespace, name), bool(fields.get("stream")), fields)

    def input(self, metadata: SkillMetadata | None) -> bytes:
        """The skill's input: the messages, and whatever else of the request its schema names."""
        known = properties(metadata)
        value = {
            key: field
            for key, field in self.fields.items()
            if key not in _NOT_PASSED and (key == MESSAGES or key in known)
        }
        value[MESSAGES] = [_plain(message) for message in self.fields[MESSAGES]]
        return msgspec.json.encode(value)


def properties(metadata: SkillMetadata | None) -> dict[str, Any]:
    """Those of the skill's input; none if it is no object, or unknown."""
    raw = metadata.input_schema if metadata else None
    schema = None if raw is None else msgspec.json.decode(raw)
    if isinstance(schema, dict) and "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        schema = schema.get("$defs", {}).get(name)
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _plain(message: Any) -> Any:
    """Most skills know texts and no parts; a message of texts only is one text."""
    parts = message.get("content") if isinstance(message, dict) else None
    if not isinstance(parts, list):
        return message
    texts = [part["text"] for part in parts if isinstance(part, dict) and "text" in part]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        return message
    return {**message, "content": "".join(texts)}


class Answer:
    """One answer, as a whole or in chunks."""

    def __init__(self, model: SkillPath) -> None:
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": str(model),
        }
        self._messages = 0

    def delta(self, event: MessageBegin | MessageAppend | Reasoning) -> dict[str, str]:
        """What the event adds to the answer; empty if nothing."""
        match event:
            case MessageBegin():
                self._messages += 1
                text = _BETWEEN_MESSAGES if self._messages > 1 else ""
            case MessageAppend():
                text = event.text
            case Reasoning():
                return {"reasoning_content": event.text}
        return {"content": text} if text else {}

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def whole(self, deltas: Iterable[dict[str, str]], finish_reason: str) -> dict[str, Any]:
        pieces: dict[str, list[str]] = {"content": []}
        for delta in deltas:
            for name, text in delta.items():
                pieces.setdefault(name, []).append(text)
        message = {"role": "assistant"} | {name: "".join(texts) for name, texts in pieces.items()}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        return {**self._head, "object": "chat.completion", "choices": [choice]}


def finish_reason(payload: Raw) -> str:
    """What the end of a message says, or its member ``finish_reason``; else that it is complete."""
    value = value_of(payload)
    if isinstance(value, dict):
        value = value.get("finish_reason")
    return value if isinstance(value, str) and value in _FINISH_REASONS else "stop"


def text_of(output: bytes) -> str:
    """What a function returned, as the text of a message."""
    value = value_of(output)
    return value if isinstance(value, str) else output.decode()


class ErrorBody(Struct):
    """https://platform.openai.com/docs/guides/error-codes"""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    code: str
    param: None = None

    @classmethod
    def of(cls, problem: dict[str, Any]) -> ErrorBody:
        kind: Any = "invalid_request_error" if problem["status"] < 500 else "server_error"
        return cls(problem["detail"], kind, problem["code"])
