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
from pharia_kernel.drivers.chunking import Chunker
from pharia_kernel.drivers.inference.base import InferenceDriver
from pharia_kernel.drivers.language import LanguageSelector
from pharia_kernel.drivers.retrieval.base import RetrievalDriver
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import NotConfigured, NotFound, ToolFailed


class CsiService:
    """Implements ``csi.api.Csi``. A driver that is not there is ``NotConfigured``."""

    def __init__(
        self,
        inference: InferenceDriver | None,
        toolbox: Toolbox,
        chunker: Chunker | None = None,
        language: LanguageSelector | None = None,
        retrieval: RetrievalDriver | None = None,
    ) -> None:
        self._inference_driver = inference
        self._toolbox = toolbox
        self._chunker = chunker
        self._language = language
        self._retrieval_driver = retrieval

    @property
    def _inference(self) -> InferenceDriver:
        if self._inference_driver is None:
            raise NotConfigured(
                "No inference provider is configured: set `openai-inference` or `inference-url`."
            )
        return self._inference_driver

    @property
    def _retrieval(self) -> RetrievalDriver:
        if self._retrieval_driver is None:
            raise NotConfigured(
                "No document index is configured: set `document-index` or `document-index-url`."
            )
        return self._retrieval_driver

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
        if self._chunker is None:
            raise NotConfigured("This kernel has no chunking driver.")
        return await all_of([self._chunker.chunk(request, context) for request in requests])

    async def select_language(
        self, requests: list[SelectLanguageRequest], context: CallContext
    ) -> list[str | None]:
        if self._language is None:
            raise NotConfigured("This kernel has no language selection driver.")
        return await all_of([self._language.select(request, context) for request in requests])

    async def search(
        self, requests: list[SearchRequest], context: CallContext
    ) -> list[list[SearchResult]]:
        driver = self._retrieval
        return await all_of([driver.search(request, context) for request in requests])

    async def documents(self, requests: list[DocumentPath], context: CallContext) -> list[Document]:
        driver = self._retrieval
        return await all_of([driver.document(path, context) for path in requests])

    async def document_metadata(
        self, requests: list[DocumentPath], context: CallContext
    ) -> list[Raw | None]:
        driver = self._retrieval
        return await all_of([driver.document_metadata(path, context) for path in requests])

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
        return await all_of(
            [self._invoke(namespace, request, context, notify) for request in requests]
        )

    async def _invoke(
        self,
        namespace: str,
        request: InvokeRequest,
        context: CallContext,
        notify: Callable[[ToolEvent], None],
    ) -> list[TextOutput] | str:
        try:
            output = await self._toolbox.invoke(namespace, request.name, request.arguments, context)
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
