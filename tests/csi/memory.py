"""A CSI in memory, which keeps what it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from pharia_kernel.csi.api import Csi, ToolEvent
from pharia_kernel.csi.guest import GuestCalls
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

T = TypeVar("T")


class MemoryCsi(Csi):
    """``answer`` says what a call returns for one request (for a stream: its events)."""

    def __init__(self, answer: Callable[[str, Any], Any]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, Any]] = []
        """Name of the call and its request, one entry for each request of a batch."""
        self.batches: list[int] = []
        self.contexts: list[CallContext] = []
        self.split_reasoning: list[bool] = []
        self.namespaces: list[str] = []
        self.closed: list[str] = []
        """Streams that have ended, one way or another."""

    def _batch(self, call: str, requests: Sequence[Any], context: CallContext) -> list[Any]:
        self.batches.append(len(requests))
        self.contexts.append(context)
        self.asked += [(call, request) for request in requests]
        return [self._answer(call, request) for request in requests]

    async def _stream(
        self, call: str, request: Any, context: CallContext
    ) -> AsyncGenerator[Any, None]:
        try:
            (events,) = self._batch(call, [request], context)
            if isinstance(events, AsyncGenerator):
                async for event in events:
                    yield event
                return
            for event in events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            for _ in range(10):  # like that of a connection, this takes a while
                await asyncio.sleep(0)
            self.closed.append(call)

    async def chat(
        self, requests: list[ChatRequest], context: CallContext, *, split_reasoning: bool
    ) -> list[ChatResponse]:
        self.split_reasoning.append(split_reasoning)
        return self._batch("chat", requests, context)

    def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        self.split_reasoning.append(split_reasoning)
        return self._stream("chat_stream", request, context)

    async def complete(
        self, requests: list[CompletionRequest], context: CallContext
    ) -> list[Completion]:
        return self._batch("complete", requests, context)

    def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        return self._stream("completion_stream", request, context)

    async def explain(
        self, requests: list[ExplanationRequest], context: CallContext
    ) -> list[list[TextScore]]:
        return self._batch("explain", requests, context)

    async def chunk(self, requests: list[ChunkRequest], context: CallContext) -> list[list[Chunk]]:
        return self._batch("chunk", requests, context)

    async def select_language(
        self, requests: list[SelectLanguageRequest], context: CallContext
    ) -> list[str | None]:
        return self._batch("select_language", requests, context)

    async def search(
        self, requests: list[SearchRequest], context: CallContext
    ) -> list[list[SearchResult]]:
        return self._batch("search", requests, context)

    async def documents(self, requests: list[DocumentPath], context: CallContext) -> list[Document]:
        return self._batch("documents", requests, context)

    async def document_metadata(
        self, requests: list[DocumentPath], context: CallContext
    ) -> list[Raw | None]:
        return self._batch("document_metadata", requests, context)

    async def invoke_tool(
        self,
        namespace: str,
        requests: list[InvokeRequest],
        context: CallContext,
        on_event: Callable[[ToolEvent], None] | None = None,
    ) -> list[list[TextOutput] | str]:
        self.namespaces.append(namespace)
        for request in requests:
            if on_event:
                on_event(ToolEvent(request.name))
        return self._batch("invoke_tool", requests, context)

    async def list_tools(self, namespace: str, context: CallContext) -> list[Tool]:
        self.namespaces.append(namespace)
        (tools,) = self._batch("list_tools", [None], context)
        return list(tools)


CONTEXT = CallContext(token="token", namespace="playground", skill="playground/greet")


async def ask(guest: GuestCalls, function: str, *arguments: Any) -> Any:
    """Make a system call as an engine does, with plain data."""
    answer = await guest.call(function, msgspec.msgpack.encode(arguments))
    return msgspec.msgpack.decode(answer)


async def read(guest: GuestCalls, stream: str, handle: int) -> list[Any]:
    """All events of an open stream up to its end."""
    events: list[Any] = []
    while new := await ask(guest, f"{stream}.next", handle):
        events += new
    return events
