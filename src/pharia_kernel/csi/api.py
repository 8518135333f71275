"""The system calls, whoever makes them: a guest, a built-in skill, or an HTTP client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from msgspec import Raw, Struct

from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Chunk,
    ChunkRequest,
    Completion,
    CompletionEvent,
    CompletionRequest,
    Document,
    DocumentPath,
    ExplanationRequest,
    InvokeRequest,
    SearchRequest,
    SearchResult,
    SelectLanguageRequest,
    TextOutput,
    TextScore,
    Tool,
)


class ToolEvent(Struct, frozen=True):
    """A tool call began (``error`` and ``done`` unset), ended, or failed."""

    name: str
    done: bool = False
    error: str | None = None


class Csi(Protocol):
    """Lists are batches: their requests run concurrently, results keep the order, the first error
    cancels the rest and is raised (a ``CsiError``). Cancelling a call or closing a stream ends what
    it does upstream."""

    async def chat(
        self, requests: list[ChatRequest], context: CallContext, *, split_reasoning: bool
    ) -> list[ChatResponse]: ...

    def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]: ...

    async def complete(
        self, requests: list[CompletionRequest], context: CallContext
    ) -> list[Completion]: ...

    def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]: ...

    async def explain(
        self, requests: list[ExplanationRequest], context: CallContext
    ) -> list[list[TextScore]]: ...

    async def chunk(
        self, requests: list[ChunkRequest], context: CallContext
    ) -> list[list[Chunk]]: ...

    async def select_language(
        self, requests: list[SelectLanguageRequest], context: CallContext
    ) -> list[str | None]: ...

    async def search(
        self, requests: list[SearchRequest], context: CallContext
    ) -> list[list[SearchResult]]: ...

    async def documents(
        self, requests: list[DocumentPath], context: CallContext
    ) -> list[Document]: ...

    async def document_metadata(
        self, requests: list[DocumentPath], context: CallContext
    ) -> list[Raw | None]: ...

    async def invoke_tool(
        self,
        namespace: str,
        requests: list[InvokeRequest],
        context: CallContext,
        on_event: Callable[[ToolEvent], None] | None = None,
    ) -> list[list[TextOutput] | str]:
        """Each slot is the tool's output, or the text of its error: a failing tool never raises.

        ``on_event`` gets a begin event for every request before any is called, then one end or
        error event for each as it finishes.
        """
        ...

    async def list_tools(self, namespace: str, context: CallContext) -> list[Tool]: ...
