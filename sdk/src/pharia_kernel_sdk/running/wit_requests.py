"""What a component asks for: from the values of wasmtime's binding to the SDK's types.

The binding has records as objects whose attributes are named as in WIT, enums as texts, options as
the value or None, and variants as the bare value or, where that is ambiguous, with tag and payload.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from pharia_kernel_sdk.csi import document_index as documents
from pharia_kernel_sdk.csi.chunking import ChunkParams, ChunkRequest
from pharia_kernel_sdk.csi.inference import (
    ChatParams,
    ChatRequest,
    CompletionParams,
    CompletionRequest,
    ExplanationRequest,
    Granularity,
    JsonSchema,
    Logprobs,
    Message,
    NamedToolChoice,
    Reasoning,
    ReasoningEffort,
    ResponseFormat,
    Role,
    ToolCall,
    ToolChoice,
    TopLogprobs,
)
from pharia_kernel_sdk.csi.language import Language, SelectLanguageRequest
from pharia_kernel_sdk.csi.tools import InvokeRequest, Tool
from pharia_kernel_sdk.streaming import MessageAppend, MessageBegin, MessageEnd, MessageItem


def fields(record: Any) -> dict[str, Any]:
    """The fields of a record, named as in Python."""
    return {name.replace("-", "_"): value for name, value in vars(record).items()}


def completion_request(record: Any) -> CompletionRequest:
    params = fields(record.params)
    params["logprobs"] = _logprobs(params["logprobs"])
    return CompletionRequest(record.model, record.prompt, CompletionParams(**params))


def chat_request(record: Any) -> ChatRequest:
    messages = [_message(message) for message in record.messages]
    return ChatRequest(record.model, messages, _chat_params(fields(record.params)))


def _chat_params(params: dict[str, Any]) -> ChatParams:
    params["logprobs"] = _logprobs(params["logprobs"])
    params["response_format"] = _response_format(params["response_format"])
    params["tool_choice"] = _tool_choice(params["tool_choice"])
    if params["tools"] is not None:
        params["tools"] = [_tool(tool) for tool in params["tools"]]
    if params["reasoning_effort"] is not None:
        params["reasoning_effort"] = ReasoningEffort(params["reasoning_effort"])
    return ChatParams(**params)


def _logprobs(variant: Any) -> Logprobs:
    if variant.tag == "top":
        return TopLogprobs(variant.payload)
    return "sampled" if variant.tag == "sampled" else "no"


def _message(variant: Any) -> Message:
    said = fields(variant.payload)
    if variant.tag == "assistant":
        calls = said["tool_calls"]
        return Message(
            Role.Assistant,
            said["content"] or "",
            said["reasoning_content"],
            calls and [ToolCall(**fields(call)) for call in calls],
        )
    if variant.tag == "tool":
        return Message.tool(**said)
    return Message(Role(said["role"]), said["content"])


def _tool(function: Any) -> Tool:
    schema = json.loads(function.parameters) if function.parameters is not None else {}
    return Tool(function.name, function.description or "", schema, function.strict)


def _tool_choice(variant: Any) -> ToolChoice | None:
    if variant is None:
        return None
    if variant.tag == "named":
        return NamedToolChoice(variant.payload)
    choice: ToolChoice = variant.tag
    return choice


def _response_format(variant: Any) -> ResponseFormat | None:
    # The only case with a payload is recognized by it; the other two are tagged.
    if variant is None:
        return None
    if variant.tag == "json-schema":
        schema = fields(variant.payload)
        if schema["schema"] is not None:
            schema["schema"] = json.loads(schema["schema"])
        return JsonSchema(**schema)
    return "json_object" if variant.tag == "json-object" else "text"


def explanation_request(record: Any) -> ExplanationRequest:
    return ExplanationRequest(
        record.prompt, record.target, record.model, Granularity(record.granularity)
    )


def chunk_request(record: Any) -> ChunkRequest:
    return ChunkRequest(record.text, ChunkParams(**fields(record.params)))


def select_language_request(record: Any) -> SelectLanguageRequest:
    return SelectLanguageRequest(record.text, [Language(code) for code in record.languages])


def invoke_request(record: Any) -> InvokeRequest:
    arguments = {argument.name: json.loads(argument.value) for argument in record.arguments}
    return InvokeRequest(getattr(record, "tool-name"), arguments)


# --- documents


def document_path(record: Any) -> documents.DocumentPath:
    return documents.DocumentPath(**fields(record))


def search_request(record: Any) -> documents.SearchRequest:
    request = fields(record)
    request["index_path"] = documents.IndexPath(**fields(request["index_path"]))
    request["filters"] = [_filter(filter_) for filter_ in request["filters"]]
    return documents.SearchRequest(**request)


_FILTERS: dict[str, Any] = {
    "without": documents.Without,
    "with-one-of": documents.WithOneOf,
    "with-all": documents.With,
}
_CONDITIONS: dict[str, Any] = {
    "greater-than": documents.GreaterThan,
    "greater-than-or-equal-to": documents.GreaterThanOrEqualTo,
    "less-than": documents.LessThan,
    "less-than-or-equal-to": documents.LessThanOrEqualTo,
    "after": documents.After,
    "at-or-after": documents.AtOrAfter,
    "before": documents.Before,
    "at-or-before": documents.AtOrBefore,
    "equal-to": documents.EqualTo,
}
_MOMENTS = ("after", "at-or-after", "before", "at-or-before")


def _filter(variant: Any) -> documents.SearchFilter:
    conditions = [
        documents.MetadataFilter(condition.field, _condition(condition.condition))
        for condition in variant.payload
    ]
    combined: documents.SearchFilter = _FILTERS[variant.tag](conditions)
    return combined


def _condition(variant: Any) -> documents.FilterCondition:
    if variant.tag == "is-null":
        return documents.IsNull()
    value = variant.payload
    if variant.tag in _MOMENTS:
        value = dt.datetime.fromisoformat(value)
    condition: documents.FilterCondition = _CONDITIONS[variant.tag](value)
    return condition


# --- what a message stream writes


def message_item(variant: Any) -> MessageItem:
    payload = variant.payload
    match variant.tag:
        case "message-begin":
            return MessageBegin(payload.role)
        case "reasoning":
            return Reasoning(payload)
        case "message-append":
            return MessageAppend(payload)
        case _:
            return MessageEnd(None if payload is None else json.loads(payload))
