"""The Cognitive System Interface by way of the component's imports."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from pharia_kernel_sdk.csi.chunking import Chunk, ChunkRequest
from pharia_kernel_sdk.csi.document_index import (
    Cursor,
    Document,
    DocumentPath,
    EqualTo,
    FilterCondition,
    Image,
    IsNull,
    MetadataFilter,
    SearchFilter,
    SearchRequest,
    SearchResult,
    Text,
    With,
    WithOneOf,
)
from pharia_kernel_sdk.csi.inference import (
    ChatEvent,
    ChatParams,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionEvent,
    CompletionParams,
    CompletionRequest,
    ExplanationRequest,
    Message,
    TextScore,
)
from pharia_kernel_sdk.csi.language import Language, SelectLanguageRequest
from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.csi.requests import checked
from pharia_kernel_sdk.csi.streams import ChatStreamResponse, CompletionStreamResponse
from pharia_kernel_sdk.csi.tools import (
    InvokeRequest,
    JsonSerializable,
    Tool,
    ToolError,
    ToolOutput,
    ToolResult,
)
from pharia_kernel_sdk.guest import models
from pharia_kernel_sdk.guest.bindings import (
    Ok,
    chunking,
    document_index,
    explaining,
    inference,
    language,
    tool,
)


class WasmCsi(Csi):
    """What skills get inside of a component.

    Requests are checked before they reach the generated bindings, where a wrong type would end the
    whole component.
    """

    def complete_concurrent(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        checked(CompletionRequest, requests)
        wit = [models.completion_request(r.model, r.prompt, r.params) for r in requests]
        return [models.completion(answer) for answer in inference.complete(wit)]

    def _completion_stream(
        self, model: str, prompt: str, params: CompletionParams
    ) -> CompletionStreamResponse:
        checked(CompletionRequest, [CompletionRequest(model, prompt, params)])
        return _CompletionStream(models.completion_request(model, prompt, params))

    def chat_concurrent(self, requests: Sequence[ChatRequest]) -> list[ChatResponse]:
        checked(ChatRequest, requests)
        wit = [models.chat_request(request) for request in requests]
        return [models.chat_response(answer) for answer in inference.chat(wit)]

    def _chat_stream(
        self, model: str, messages: list[Message], params: ChatParams
    ) -> ChatStreamResponse:
        request = ChatRequest(model, messages, params)
        checked(ChatRequest, [request])
        return _ChatStream(models.chat_request(request))

    def explain_concurrent(self, requests: Sequence[ExplanationRequest]) -> list[list[TextScore]]:
        checked(ExplanationRequest, requests)
        wit = [
            explaining.ExplanationRequest(
                r.prompt, r.target, r.model, explaining.Granularity[r.granularity.name]
            )
            for r in requests
        ]
        return [
            [TextScore(s.start, s.length, s.score) for s in scores]
            for scores in explaining.explain(wit)
        ]

    def chunk_concurrent(self, requests: Sequence[ChunkRequest]) -> list[list[Chunk]]:
        checked(ChunkRequest, requests)
        wit = [
            chunking.ChunkWithOffsetRequest(
                r.text,
                chunking.ChunkParams(r.params.model, r.params.max_tokens, r.params.overlap),
                True,
            )
            for r in requests
        ]
        return [
            [Chunk(chunk.text, chunk.character_offset) for chunk in chunks]
            for chunks in chunking.chunk_with_offsets(wit)
        ]

    def select_language_concurrent(
        self, requests: Sequence[SelectLanguageRequest]
    ) -> list[Language | None]:
        checked(SelectLanguageRequest, requests)
        wit = [
            language.SelectLanguageRequest(r.text, [code.value for code in r.languages])
            for r in requests
        ]
        return [code and Language(code) for code in language.select_language(wit)]

    def search_concurrent(self, requests: Sequence[SearchRequest]) -> list[list[SearchResult]]:
        checked(SearchRequest, requests)
        found = document_index.search([_search(request) for request in requests])
        return [[_search_result(result) for result in results] for results in found]

    def documents(self, document_paths: Sequence[DocumentPath]) -> list[Document]:
        checked(DocumentPath, document_paths)
        return [_document(d) for d in document_index.documents(_paths(document_paths))]

    def documents_metadata(self, document_paths: Sequence[DocumentPath]) -> list[JsonSerializable]:
        checked(DocumentPath, document_paths)
        found = document_index.document_metadata(_paths(document_paths))
        return [_json(metadata) for metadata in found]

    def invoke_tool_concurrent(self, requests: Sequence[InvokeRequest]) -> list[ToolResult]:
        checked(InvokeRequest, requests)
        wit = [
            tool.InvokeRequest(
                r.name, [tool.Argument(n, json.dumps(v).encode()) for n, v in r.arguments.items()]
            )
            for r in requests
        ]
        return [
            ToolOutput([part.value for part in result.value])
            if isinstance(result, Ok)
            else ToolError(result.value)
            for result in tool.invoke_tool(wit)
        ]

    def list_tools(self) -> list[Tool]:
        return [Tool(t.name, t.description, _json(t.input_schema)) for t in tool.list_tools()]


class _CompletionStream(CompletionStreamResponse):
    def __init__(self, request: Any) -> None:
        self._stream = inference.CompletionStream(request)

    def next(self) -> CompletionEvent | None:
        event = self._stream.next()
        return None if event is None else models.completion_event(event)

    def close(self) -> None:
        self._stream.__exit__(None, None, None)


class _ChatStream(ChatStreamResponse):
    def __init__(self, request: Any) -> None:
        self._stream = inference.ChatStream(request)
        super().__init__()

    def _next(self) -> ChatEvent | None:
        event = self._stream.next()
        return None if event is None else models.chat_event(event)

    def close(self) -> None:
        self._stream.__exit__(None, None, None)


# --- documents


def _paths(paths: Sequence[DocumentPath]) -> list[Any]:
    return [document_index.DocumentPath(p.namespace, p.collection, p.name) for p in paths]


def _search(request: SearchRequest) -> Any:
    path = request.index_path
    return document_index.SearchRequest(
        document_index.IndexPath(path.namespace, path.collection, path.index),
        request.query,
        request.max_results,
        request.min_score,
        [_filter(filter_) for filter_ in request.filters],
    )


def _filter(filter_: SearchFilter) -> Any:
    conditions = [_metadata_filter(condition) for condition in filter_.value]
    if isinstance(filter_, With):
        return document_index.SearchFilter_WithAll(conditions)
    if isinstance(filter_, WithOneOf):
        return document_index.SearchFilter_WithOneOf(conditions)
    return document_index.SearchFilter_Without(conditions)


def _metadata_filter(filter_: MetadataFilter) -> Any:
    return document_index.MetadataFilter(filter_.field, _condition(filter_.condition))


def _condition(condition: FilterCondition) -> Any:
    """The cases in WIT are named as the types here."""
    case = getattr(document_index, f"MetadataFilterCondition_{type(condition).__name__}")
    if isinstance(condition, IsNull):
        return case()
    if isinstance(condition, EqualTo):
        return case(_field_value(condition.value))
    if isinstance(condition.value, dt.datetime):
        return case(condition.value.isoformat())
    return case(condition.value)


def _field_value(value: str | int | bool) -> Any:
    if isinstance(value, bool):  # which is an integer, too
        return document_index.MetadataFieldValue_BooleanType(value)
    if isinstance(value, int):
        return document_index.MetadataFieldValue_IntegerType(value)
    return document_index.MetadataFieldValue_StringType(value)


def _search_result(result: Any) -> SearchResult:
    return SearchResult(
        _path(result.document_path),
        result.content,
        result.score,
        Cursor(result.start.item, result.start.position),
        Cursor(result.end.item, result.end.position),
    )


def _document(document: Any) -> Document:
    contents = [
        Text(part.value) if isinstance(part, document_index.Modality_Text) else Image()
        for part in document.contents
    ]
    return Document(_path(document.path), contents, _json(document.metadata))


def _path(path: Any) -> DocumentPath:
    return DocumentPath(path.namespace, path.collection, path.name)


def _json(document: bytes | None) -> Any:
    return None if document is None else json.loads(document)
