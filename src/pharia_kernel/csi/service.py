"""The system calls on top of the drivers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from msgspec import Raw

from pharia_kernel.csi.api import ToolEvent
from pharia_kernel.csi.concurrency import all_of
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
from pharia_kernel.drivers.inference.base import InferenceDriver
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import NotConfigured, NotFound, ToolFailed


class CsiService:
    """Implements ``csi.api.Csi``."""

    def __init__(self, inference: InferenceDriver | None, toolbox: Toolbox) -> None:
        self._inference_driver = inference
        self._toolbox = toolbox

    @property
    def _inference(self) -> InferenceDriver:
        if self._inference_driver is None:
            raise NotConfigured(
                "No inference provider is configured: set `openai-inference` or `inference-url`."
            )
        return self._inference_driver

    async def chat(
        self, requests: list[ChatRequest], context: CallContext, *, split_reasoning: bool
    ) -> list[ChatResponse]:
        driver = self._inference
        return await all_of(
            [driver.chat(r, context, split_reasoning=split_reasoning) for r in requests]
        )

    def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        return self._inference.chat_stream(request, context, split_reasoning=split_reasoning)

    async def complete(
        self, requests: list[CompletionRequest], context: CallContext
    ) -> list[Completion]:
        driver = self._inference
        return await all_of([driver.complete(request, context) for request in requests])

    def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        return self._inference.completion_stream(request, context)

    async def explain(
        self, requests: list[ExplanationRequest], context: CallContext
    ) -> list[list[TextScore]]:
        driver = self._inference
        return await all_of([driver.explain(request, context) for request in requests])

    async def chunk(self, requests: list[ChunkRequest], context: CallContext) -> list[list[Chunk]]:
        raise NotConfigured("This kernel has no chunking driver yet.")

    async def select_language(
        self, requests: list[SelectLanguageRequest], context: CallContext
    ) -> list[str | None]:
        raise NotConfigured("This kernel has no language selection driver yet.")

    async def search(
        self, requests: list[SearchRequest], context: CallContext
    ) -> list[list[SearchResult]]:
        raise _no_document_index()

    async def documents(self, requests: list[DocumentPath], context: CallContext) -> list[Document]:
        raise _no_document_index()

    async def document_metadata(
        self, requests: list[DocumentPath], context: CallContext
    ) -> list[Raw | None]:
        raise _no_document_index()

    async def invoke_tool(
        self,
        namespace: str,
        requests: list[InvokeRequest],
        context: CallContext,
        on_event: Callable[[ToolEvent], None] | None = None,
    ) -> list[list[TextOutput] | str]:
        notify = on_event or (lambda _event: None)
        for request in requests:
            notify(ToolEvent(request.name))
        return await all_of([self._invoke(namespace, request, notify) for request in requests])

    async def _invoke(
        self, namespace: str, request: InvokeRequest, notify: Callable[[ToolEvent], None]
    ) -> list[TextOutput] | str:
        try:
            output = await self._toolbox.invoke(namespace, request.name, request.arguments)
        except ToolFailed as error:
            notify(ToolEvent(request.name, done=True, error=error.detail))
            return error.detail
        notify(ToolEvent(request.name, done=True))
        return output

    async def list_tools(self, namespace: str, context: CallContext) -> list[Tool]:
        tools = self._toolbox.tools(namespace)
        if tools is None:
            raise NotFound(f"Namespace '{namespace}' not found")
        return tools


def _no_document_index() -> NotConfigured:
    return NotConfigured("This kernel has no document index driver yet.")
