"""What a component is answered: from the SDK's types to the values of wasmtime's binding."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from typing import Any

from wasmtime.component import Record, Variant

from pharia_kernel_sdk.csi.chunking import Chunk
from pharia_kernel_sdk.csi.document_index import Document, SearchResult, Text
from pharia_kernel_sdk.csi.inference import (
    ChatEvent,
    ChatResponse,
    CompletionAppend,
    CompletionEvent,
    FinishReason,
    Message,
    MessageAppend,
    MessageBegin,
    Reasoning,
    ToolCallEvent,
)
from pharia_kernel_sdk.csi.tools import Tool, ToolOutput, ToolResult


def record(**fields: Any) -> Record:
    result = Record()
    for name, value in fields.items():
        setattr(result, name.replace("_", "-"), value)
    return result


def lowered(value: Any) -> Any:
    """A value of a type whose WIT has the same fields."""
    if isinstance(value, Enum):
        return str(value.value).replace("_", "-")
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return record(**{name: lowered(getattr(value, name)) for name in names})
    if isinstance(value, list | tuple):
        return [lowered(item) for item in value]
    return value


def chat_response(response: ChatResponse) -> Record:
    return record(
        message=_assistant(response.message),
        finish_reason=lowered(response.finish_reason),
        logprobs=lowered(response.logprobs),
        usage=lowered(response.usage),
    )


def _assistant(message: Message) -> Record:
    return record(
        content=None if message.tool_calls and not message.content else message.content,
        reasoning_content=message.reasoning_content,
        tool_calls=lowered(message.tool_calls),
    )


def completion_event(event: CompletionEvent) -> Variant:
    if isinstance(event, CompletionAppend):
        return Variant("append", lowered(event))
    return Variant("end" if isinstance(event, FinishReason) else "usage", lowered(event))


def chat_event(event: ChatEvent) -> Variant:
    match event:
        case MessageBegin(role):
            return Variant("message-begin", role)
        case Reasoning(content):
            return Variant("reasoning", content)
        case MessageAppend(content):
            return Variant("message-append", record(content=content))
        case ToolCallEvent(chunks):
            return Variant("tool-call", lowered(chunks))
        case FinishReason():
            return Variant("message-end", lowered(event))
        case _:
            return Variant("usage", lowered(event))


def chunk_with_offset(text: str, chunk: Chunk) -> Record:
    """Skills may ask for both kinds of offset; the SDK's chunks have that in characters."""
    offset = chunk.character_offset
    return record(text=chunk.text, byte_offset=len(text[:offset].encode()), character_offset=offset)


def search_result(result: SearchResult) -> Record:
    lowered_result: Record = lowered(dataclasses.replace(result, score=float(result.score)))
    return lowered_result


def document(value: Document) -> Record:
    return record(
        path=lowered(value.path),
        contents=[part.text if isinstance(part, Text) else None for part in value.contents],
        metadata=_json(value.metadata),
    )


def metadata(value: Any) -> bytes | None:
    return _json(value)


def _json(value: Any) -> bytes | None:
    return None if value is None else json.dumps(value).encode()


def tool_result(result: ToolResult) -> Any:
    return list(result.contents) if isinstance(result, ToolOutput) else result.message


def tool(value: Tool) -> Record:
    return record(
        name=value.name,
        description=value.description,
        input_schema=json.dumps(value.input_schema).encode(),
    )
