"""A kernel that echoes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pharia_kernel_sdk.csi.chunking import Chunk, ChunkRequest
from pharia_kernel_sdk.csi.document_index import (
    Cursor,
    Document,
    DocumentPath,
    SearchRequest,
    SearchResult,
    Text,
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
    ExplanationRequest,
    FinishReason,
    Message,
    MessageAppend,
    MessageBegin,
    TextScore,
    TokenUsage,
)
from pharia_kernel_sdk.csi.language import Language, SelectLanguageRequest
from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.csi.streams import ChatStreamResponse, CompletionStreamResponse
from pharia_kernel_sdk.csi.tools import (
    InvokeRequest,
    JsonSerializable,
    Tool,
    ToolOutput,
    ToolResult,
)


class StubCsi(Csi):
    """Answers without any server, and always the same. Override the methods that a test is about.

    Completions are the prompt, chats the last message, a chunk is the whole text, the language the
    first candidate; a search finds one dummy, tools return nothing. Tokens are characters.
    """

    def complete_concurrent(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        return [Completion(r.prompt, FinishReason.STOP, [], _usage(r.prompt)) for r in requests]

    def _completion_stream(
        self, model: str, prompt: str, params: CompletionParams
    ) -> CompletionStreamResponse:
        pieces = [CompletionAppend(character, []) for character in prompt]
        return ScriptedCompletionStream([*pieces, FinishReason.STOP, _usage(prompt)])

    def chat_concurrent(self, requests: Sequence[ChatRequest]) -> list[ChatResponse]:
        texts = [request.messages[-1].content for request in requests]
        return [
            ChatResponse(Message.assistant(text), FinishReason.STOP, [], _usage(text))
            for text in texts
        ]

    def _chat_stream(
        self, model: str, messages: list[Message], params: ChatParams
    ) -> ChatStreamResponse:
        pieces = [MessageAppend(message.content) for message in messages]
        usage = _usage("".join(piece.content for piece in pieces))
        events: list[ChatEvent] = [MessageBegin("assistant"), *pieces, FinishReason.STOP, usage]
        return ScriptedChatStream(events)

    def explain_concurrent(self, requests: Sequence[ExplanationRequest]) -> list[list[TextScore]]:
        return [[] for _ in requests]

    def chunk_concurrent(self, requests: Sequence[ChunkRequest]) -> list[list[Chunk]]:
        return [[Chunk(request.text, 0)] for request in requests]

    def select_language_concurrent(
        self, requests: Sequence[SelectLanguageRequest]
    ) -> list[Language | None]:
        return [next(iter(request.languages), None) for request in requests]

    def search_concurrent(self, requests: Sequence[SearchRequest]) -> list[list[SearchResult]]:
        path = DocumentPath("dummy-namespace", "dummy-collection", "dummy-name")
        start = end = Cursor(0, 0)
        return [[SearchResult(path, "dummy-content", 1.0, start, end)] for _ in requests]

    def documents(self, document_paths: Sequence[DocumentPath]) -> list[Document]:
        return [Document(path, [Text("dummy-content")], None) for path in document_paths]

    def documents_metadata(self, document_paths: Sequence[DocumentPath]) -> list[JsonSerializable]:
        return [{} for _ in document_paths]

    def invoke_tool_concurrent(self, requests: Sequence[InvokeRequest]) -> list[ToolResult]:
        return [ToolOutput([]) for _ in requests]

    def list_tools(self) -> list[Tool]:
        return []


class ScriptedCompletionStream(CompletionStreamResponse):
    """A completion of given events."""

    def __init__(self, events: Iterable[CompletionEvent]) -> None:
        self._events: Iterator[CompletionEvent] = iter(events)

    def next(self) -> CompletionEvent | None:
        return next(self._events, None)


class ScriptedChatStream(ChatStreamResponse):
    """An answer of given events, of which the first is a ``MessageBegin``."""

    def __init__(self, events: Iterable[ChatEvent]) -> None:
        self._events: Iterator[ChatEvent] = iter(events)
        super().__init__()

    def _next(self) -> ChatEvent | None:
        return next(self._events, None)


def _usage(text: str) -> TokenUsage:
    return TokenUsage(len(text), len(text))
