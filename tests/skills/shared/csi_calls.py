"""What WIT 0.3 and later have in common: calls by their names over HTTP, with the bodies and the
answers that `/csi/v2` takes and gives."""

import json
from collections.abc import Callable
from typing import Any

from wit_json import event, from_json, to_json
from wit_world.imports import chunking, document_index, inference, language, tool

Json = Any
Call = Callable[[Json], Json]


def batch(function: Callable[[list[Any]], list[Any]], request: type) -> Call:
    return lambda body: to_json(function(from_json(list[request], body)))


def stream(resource: type, request: type) -> Call:
    """Reads to the end, which has to stay the end."""

    def read(body: Json) -> Json:
        events = []
        with resource(from_json(request, body)) as opened:
            while (item := opened.next()) is not None:
                events.append(event(item))
            assert opened.next() is None, "a stream went on after its end"
        return events

    return read


def dropped(resource: type, request: type, *, after: int) -> Call:
    """Leaves the stream after so many events."""

    def read(body: Json) -> Json:
        with resource(from_json(request, body)) as opened:
            return [event(opened.next()) for _ in range(after)]

    return read


def streams(name: str, resource: type, request: type) -> dict[str, Call]:
    return {
        name: stream(resource, request),
        f"{name}_unread": dropped(resource, request, after=0),
        f"{name}_begun": dropped(resource, request, after=1),
    }


def search(body: Json) -> Json:
    requests = [r | {"filters": [filter_(f) for f in r["filters"]]} for r in body]
    return to_json(document_index.search(from_json(list[document_index.SearchRequest], requests)))


def filter_(value: Json) -> Json:
    """With the names and the nesting of WIT."""
    ((name, items),) = value.items()
    return {"with_all" if name == "with" else name: [condition(i["metadata"]) for i in items]}


def condition(value: Json) -> Json:
    ((name, operand),) = ((k, v) for k, v in value.items() if k != "field")
    if name == "equal_to":
        operand = {FIELD_VALUES[type(operand)]: operand}
    return {"field": value["field"], "condition": {name: operand}}


FIELD_VALUES = {str: "string_type", bool: "boolean_type", int: "integer_type"}


def invoke_tool(body: Json) -> Json:
    requests = [{"tool_name": r["name"], "arguments": r["arguments"]} for r in body["requests"]]
    return to_json(tool.invoke_tool(from_json(list[tool.InvokeRequest], requests)))


CALLS: dict[str, Call] = {
    "chat": batch(inference.chat, inference.ChatRequest),
    "complete": batch(inference.complete, inference.CompletionRequest),
    **streams("chat_stream", inference.ChatStream, inference.ChatRequest),
    **streams("completion_stream", inference.CompletionStream, inference.CompletionRequest),
    "chunk": batch(chunking.chunk, chunking.ChunkRequest),
    "chunk_with_offsets": batch(chunking.chunk_with_offsets, chunking.ChunkWithOffsetRequest),
    "select_language": batch(language.select_language, language.SelectLanguageRequest),
    "search": search,
    "documents": batch(document_index.documents, document_index.DocumentPath),
    "document_metadata": batch(document_index.document_metadata, document_index.DocumentPath),
    "invoke_tool": invoke_tool,
    "list_tools": lambda body: to_json(tool.list_tools()),
}


def answers(calls: dict[str, Call], input: bytes) -> bytes:
    """Input is a list of names and bodies; the output has the answer of each."""
    return json.dumps([calls[name](body) for name, body in json.loads(input)]).encode()
