"""The Cognitive System Interface over HTTP: what a component asks its kernel for, asked from plain
Python, as tests and development do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from pharia_kernel_sdk.csi.chunking import Chunk, ChunkRequest
from pharia_kernel_sdk.csi.document_index import (
    Document,
    DocumentPath,
    FilterCondition,
    MetadataFilter,
    SearchFilter,
    SearchRequest,
    SearchResult,
    With,
    WithOneOf,
)
from pharia_kernel_sdk.csi.inference import (
    ChatEvent,
    ChatParams,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionAppend,
    CompletionEvent,
    CompletionParams,
    CompletionRequest,
    Distribution,
    ExplanationRequest,
    FinishReason,
    JsonSchema,
    Logprob,
    Message,
    MessageAppend,
    MessageBegin,
    NamedToolChoice,
    Reasoning,
    Role,
    TextScore,
    TokenUsage,
    ToolCall,
    ToolCallChunk,
    ToolCallEvent,
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
from pharia_kernel_sdk.shapes import shape_of
from pharia_kernel_sdk.transport import Event, HttpTransport, Transport


class HttpCsi(Csi):
    """Asks a running kernel. Without arguments, the one that the environment names
    (``HttpTransport.from_environment``).

    ``namespace`` is that whose tools are called.
    """

    def __init__(self, namespace: str | None = None, transport: Transport | None = None) -> None:
        self._namespace = namespace
        self._transport = transport or HttpTransport.from_environment()

    def close(self) -> None:
        """Closes the connections to the kernel."""
        self._transport.close()

    def __enter__(self) -> HttpCsi:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def complete_concurrent(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        answers = self._call("complete", checked(CompletionRequest, requests))
        return [_completion(answer) for answer in answers]

    def _completion_stream(
        self, model: str, prompt: str, params: CompletionParams
    ) -> CompletionStreamResponse:
        (body,) = checked(CompletionRequest, [CompletionRequest(model, prompt, params)])
        return _CompletionStream(self._transport.stream("completion_stream", body))

    def chat_concurrent(self, requests: Sequence[ChatRequest]) -> list[ChatResponse]:
        checked(ChatRequest, requests)
        answers = self._call("chat", [_chat_request(request) for request in requests])
        return [_chat_response(answer) for answer in answers]

    def _chat_stream(
        self, model: str, messages: list[Message], params: ChatParams
    ) -> ChatStreamResponse:
        request = ChatRequest(model, messages, params)
        checked(ChatRequest, [request])
        return _ChatStream(self._transport.stream("chat_stream", _chat_request(request)))

    def explain_concurrent(self, requests: Sequence[ExplanationRequest]) -> list[list[TextScore]]:
        answers = self._call("explain", checked(ExplanationRequest, requests))
        return [[TextScore(**score) for score in scores] for scores in answers]

    def chunk_concurrent(self, requests: Sequence[ChunkRequest]) -> list[list[Chunk]]:
        bodies = [{**body, "character_offsets": True} for body in checked(ChunkRequest, requests)]
        answers = self._call("chunk_with_offsets", bodies)
        return [
            [Chunk(chunk["text"], chunk["character_offset"]) for chunk in chunks]
            for chunks in answers
        ]

    def select_language_concurrent(
        self, requests: Sequence[SelectLanguageRequest]
    ) -> list[Language | None]:
        codes = self._call("select_language", checked(SelectLanguageRequest, requests))
        return [code and Language(code) for code in codes]

    def search_concurrent(self, requests: Sequence[SearchRequest]) -> list[list[SearchResult]]:
        checked(SearchRequest, requests)
        answers = self._call("search", [_search(request) for request in requests])
        shape = shape_of(list[SearchResult])
        return [shape.load(results) for results in answers]

    def documents(self, document_paths: Sequence[DocumentPath]) -> list[Document]:
        answers = self._call("documents", checked(DocumentPath, document_paths))
        loaded: list[Document] = shape_of(list[Document]).load(answers)
        return loaded

    def documents_metadata(self, document_paths: Sequence[DocumentPath]) -> list[JsonSerializable]:
        return list(self._call("document_metadata", checked(DocumentPath, document_paths)))

    def invoke_tool_concurrent(self, requests: Sequence[InvokeRequest]) -> list[ToolResult]:
        calls = [
            {
                "name": request["name"],
                "arguments": [{"name": n, "value": v} for n, v in request["arguments"].items()],
            }
            for request in checked(InvokeRequest, requests)
        ]
        body = {"namespace": self._tools_of(), "requests": calls}
        return [
            ToolError(result)
            if isinstance(result, str)
            else ToolOutput([part["text"] for part in result])
            for result in self._call("invoke_tool", body)
        ]

    def list_tools(self) -> list[Tool]:
        tools = self._call("list_tools", {"namespace": self._tools_of()})
        return [Tool(t["name"], t.get("description") or "", t["input_schema"]) for t in tools]

    def _tools_of(self) -> str:
        if self._namespace is None:
            raise ValueError("Tools belong to a namespace: HttpCsi(namespace=...).")
        return self._namespace

    def _call(self, function: str, body: Any) -> Any:
        return self._transport.call(function, body)


class _CompletionStream(CompletionStreamResponse):
    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events

    def next(self) -> CompletionEvent | None:
        for name, data in self._events:
            match name:
                case "append":
                    return CompletionAppend(data["text"], _distributions(data["logprobs"]))
                case "end":
                    return FinishReason(data["finish_reason"])
                case "usage":
                    return TokenUsage(**data["usage"])
        return None

    def close(self) -> None:
        _close(self._events)


class _ChatStream(ChatStreamResponse):
    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        super().__init__()

    def _next(self) -> ChatEvent | None:
        for name, data in self._events:
            match name:
                case "message_begin":
                    return MessageBegin(data["role"])
                case "reasoning":
                    return Reasoning(data["content"])
                case "message_append":
                    return MessageAppend(data["content"])
                case "tool_call":
                    return ToolCallEvent([ToolCallChunk(**chunk) for chunk in data["tool_calls"]])
                case "message_end":
                    return FinishReason(data["finish_reason"])
                case "usage":
                    return TokenUsage(**data["usage"])
        return None

    def close(self) -> None:
        _close(self._events)


def _close(events: Iterator[Event]) -> None:
    """Ends a stream that is a generator; a recording may be any iterator."""
    close = getattr(events, "close", None)
    if close is not None:
        close()


# --- chat


def _chat_request(request: ChatRequest) -> dict[str, Any]:
    params = request.params
    body: dict[str, Any] = shape_of(ChatParams).dump(params)
    if params.tools is not None:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description or None,
                "parameters": tool.input_schema,
                "strict": tool.strict,
            }
            for tool in params.tools
        ]
    if isinstance(params.tool_choice, NamedToolChoice):
        body["tool_choice"] = {"named": params.tool_choice.name}
    if isinstance(params.response_format, JsonSchema):
        body["response_format"] = {"json_schema": body["response_format"]}
    messages = [_message(message) for message in request.messages]
    return {"model": request.model, "messages": messages, "params": body}


def _message(message: Message) -> dict[str, Any]:
    """As it goes through a component: without what its kind of message does not have."""
    body: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.role is Role.Assistant and message.tool_calls:
        body["content"] = message.content or None
        body["tool_calls"] = shape_of(list[ToolCall]).dump(message.tool_calls)
    if message.role is Role.Tool:
        body["tool_call_id"] = message.tool_call_id or ""
    return body


def _chat_response(answer: dict[str, Any]) -> ChatResponse:
    said = answer["message"]
    calls = [ToolCall(**call) for call in said.get("tool_calls") or []]
    return ChatResponse(
        Message(
            Role.Assistant,
            said.get("content") or "",
            reasoning_content=said.get("reasoning_content"),
            tool_calls=calls or None,
        ),
        FinishReason(answer["finish_reason"]),
        _distributions(answer["logprobs"]),
        TokenUsage(**answer["usage"]),
    )


def _completion(answer: dict[str, Any]) -> Completion:
    return Completion(
        answer["text"],
        FinishReason(answer["finish_reason"]),
        _distributions(answer["logprobs"]),
        TokenUsage(**answer["usage"]),
    )


def _distributions(distributions: list[dict[str, Any]]) -> list[Distribution]:
    return [
        Distribution(_logprob(d["sampled"]), [_logprob(top) for top in d["top"]])
        for d in distributions
    ]


def _logprob(logprob: dict[str, Any]) -> Logprob:
    value = logprob["logprob"]
    return Logprob(bytes(logprob["token"]), float("nan") if value is None else value)


# --- search


def _search(request: SearchRequest) -> dict[str, Any]:
    path = request.index_path
    return {
        "index_path": {
            "namespace": path.namespace,
            "collection": path.collection,
            "index": path.index,
        },
        "query": request.query,
        "max_results": request.max_results,
        "min_score": request.min_score,
        "filters": [_filter(filter_) for filter_ in request.filters],
    }


def _filter(filter_: SearchFilter) -> dict[str, Any]:
    key = "without"
    if isinstance(filter_, With):
        key = "with"
    elif isinstance(filter_, WithOneOf):
        key = "with_one_of"
    return {key: [{"metadata": _metadata_filter(condition)} for condition in filter_.value]}


def _metadata_filter(filter_: MetadataFilter) -> dict[str, Any]:
    return {"field": filter_.field, _key(filter_.condition): _value(filter_.condition)}


def _key(condition: FilterCondition) -> str:
    """``AtOrAfter`` is ``at_or_after``."""
    name = type(condition).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_")


def _value(condition: FilterCondition) -> Any:
    value = condition.value
    return value.isoformat() if isinstance(value, dt.datetime) else value
