"""The system calls on top of the drivers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from msgspec import Raw, structs

from pharia_kernel.csi.api import ToolEvent
from pharia_kernel.csi.concurrency import all_of
from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatParams,
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
    Function,
    InvokeRequest,
    NamedTool,
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
from pharia_kernel.drivers.tools.toolbox import Toolbox, unknown_tool
from pharia_kernel.errors import InvalidCsiRequest, NotConfigured, NotFound, ToolFailed
from pharia_kernel.telemetry import calls, names, tracing
from pharia_kernel.telemetry.calls import Call
from pharia_kernel.telemetry.generation import Generation

T = TypeVar("T")
R = TypeVar("R")


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
        async def one(request: ChatRequest) -> ChatResponse:
            with Generation("chat", request, context) as call:
                answer = await self._inference.chat(
                    request, call.context, split_reasoning=split_reasoning
                )
                call.answered(answer)
                return answer

        offered = [self._with_allowed_tools(request, context) for request in requests]
        return await _each("chat", one, offered)

    def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        calls.batch("chat_stream", 1)
        driver, offered = self._inference, self._with_allowed_tools(request, context)

        def begin() -> tuple[Call, AsyncGenerator[ChatEvent, None]]:
            call = Generation("chat_stream", offered, context, stream=True)
            return call, driver.chat_stream(offered, call.context, split_reasoning=split_reasoning)

        return calls.streamed(begin)

    async def complete(
        self, requests: list[CompletionRequest], context: CallContext
    ) -> list[Completion]:
        async def one(request: CompletionRequest) -> Completion:
            with Generation("complete", request, context) as call:
                answer = await self._inference.complete(request, call.context)
                call.answered(answer)
                return answer

        return await _each("complete", one, requests)

    def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        calls.batch("completion_stream", 1)
        driver = self._inference

        def begin() -> tuple[Call, AsyncGenerator[CompletionEvent, None]]:
            call = Generation("completion_stream", request, context, stream=True)
            return call, driver.completion_stream(request, call.context)

        return calls.streamed(begin)

    async def explain(
        self, requests: list[ExplanationRequest], context: CallContext
    ) -> list[list[TextScore]]:
        async def one(request: ExplanationRequest) -> list[TextScore]:
            with Call("explain", context, model=request.model) as call:
                call.span.set(names.MODEL, request.model)
                # The original has two: of the system call, and of the inference.
                with tracing.span(names.EXPLAIN, "client") as inference:
                    return await self._inference.explain(request, calls.within(inference, context))

        return await _each("explain", one, requests)

    async def chunk(self, requests: list[ChunkRequest], context: CallContext) -> list[list[Chunk]]:
        if self._chunker is None:
            raise NotConfigured("This kernel has no chunking driver.")
        driver = self._chunker

        async def one(request: ChunkRequest) -> list[Chunk]:
            with Call("chunk", context) as call:
                if call.span:
                    call.span.set(names.TEXT_LENGTH, len(request.text.encode()))
                    call.span.set(names.MAX_TOKENS, request.params.max_tokens)
                return await driver.chunk(request, call.context)

        return await _each("chunk", one, requests)

    async def select_language(
        self, requests: list[SelectLanguageRequest], context: CallContext
    ) -> list[str | None]:
        if self._language is None:
            raise NotConfigured("This kernel has no language selection driver.")
        driver = self._language

        async def one(request: SelectLanguageRequest) -> str | None:
            with Call("select_language", context) as call:
                if call.span:
                    call.span.set(names.TEXT_LENGTH, len(request.text.encode()))
                    call.span.set(names.LANGUAGES, len(request.languages))
                return await driver.select(request, call.context)

        return await _each("select_language", one, requests)

    async def search(
        self, requests: list[SearchRequest], context: CallContext
    ) -> list[list[SearchResult]]:
        async def one(request: SearchRequest) -> list[SearchResult]:
            with Call("search", context) as call:
                if call.span:
                    call.span.set(names.NAMESPACE, request.index_path.namespace)
                    call.span.set(names.COLLECTION, request.index_path.collection)
                    call.span.set(names.MAX_RESULTS, request.max_results)
                    call.span.set(names.MIN_SCORE, request.min_score)
                return await self._retrieval.search(request, call.context)

        return await _each("search", one, requests)

    async def documents(self, requests: list[DocumentPath], context: CallContext) -> list[Document]:
        async def one(path: DocumentPath) -> Document:
            with Call("documents", context, span_name=names.DOCUMENT) as call:
                _describe(call, path)
                return await self._retrieval.document(path, call.context)

        return await _each("documents", one, requests, names.DOCUMENT)

    async def document_metadata(
        self, requests: list[DocumentPath], context: CallContext
    ) -> list[Raw | None]:
        async def one(path: DocumentPath) -> Raw | None:
            with Call("document_metadata", context) as call:
                _describe(call, path)
                return await self._retrieval.document_metadata(path, call.context)

        return await _each("document_metadata", one, requests)

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

        async def one(request: InvokeRequest) -> list[TextOutput] | str:
            with Call("invoke_tool", context) as call:
                call.span.set(names.TOOL_NAME, request.name)
                return await self._invoke(namespace, request, call, notify)

        return await _each("invoke_tool", one, requests)

    async def _invoke(
        self,
        namespace: str,
        request: InvokeRequest,
        call: Call,
        notify: Callable[[ToolEvent], None],
    ) -> list[TextOutput] | str:
        context = call.context
        try:
            if not context.allows_tool(request.name):
                raise unknown_tool(request.name)
            output = await self._toolbox.invoke(namespace, request.name, request.arguments, context)
        except ToolFailed as error:
            call.failed(error)
            notify(ToolEvent(request.name, done=True, error=error.detail))
            return error.detail
        notify(ToolEvent(request.name, done=True))
        return output

    async def list_tools(self, namespace: str, context: CallContext) -> list[Tool]:
        calls.batch("list_tools", 1)
        with Call("list_tools", context) as call:
            call.span.set(names.NAMESPACE, namespace)
            await self._toolbox.settle(namespace)
            tools = self._toolbox.tools(namespace)
            if tools is None:
                raise NotFound(f"Namespace '{namespace}' not found")
            return [tool for tool in tools if context.allows_tool(tool.name)]

    def _with_allowed_tools(self, request: ChatRequest, context: CallContext) -> ChatRequest:
        """The request without tools of the namespace that the skill may not use: the model is not
        offered what can't be called. Functions of the skill's own stay.
        """
        params = request.params
        if context.allowed_tools is None or not params.tools:
            return request
        existing = {tool.name for tool in self._toolbox.tools(context.namespace or "") or ()}
        tools = [
            tool
            for tool in params.tools
            if tool.name not in existing or context.allows_tool(tool.name)
        ]
        if len(tools) == len(params.tools):
            return request
        return structs.replace(request, params=_offering(params, tools))


async def _each(
    function: str,
    call: Callable[[R], Coroutine[Any, Any, T]],
    requests: list[R],
    span_name: str | None = None,
) -> list[T]:
    """One system call with all its requests."""
    with calls.batch(function, len(requests), span_name):
        return await all_of([call(request) for request in requests])


def _describe(call: Call, path: DocumentPath) -> None:
    if call.span:
        call.span.set(names.NAMESPACE, path.namespace)
        call.span.set(names.COLLECTION, path.collection)
        call.span.set(names.NAME, path.name)


def _offering(params: ChatParams, tools: list[Function]) -> ChatParams:
    choice = params.tool_choice
    if isinstance(choice, NamedTool) and all(tool.name != choice.named for tool in tools):
        raise InvalidCsiRequest(
            f"The tool `{choice.named}`, which the model shall call, is unknown."
        )
    if tools:
        return structs.replace(params, tools=tools)
    return structs.replace(params, tools=None, tool_choice=None, parallel_tool_calls=None)
