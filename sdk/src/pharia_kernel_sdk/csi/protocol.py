"""The Cognitive System Interface: all that a skill can ask the outside world for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from pharia_kernel_sdk.csi.chunking import Chunk, ChunkParams, ChunkRequest
from pharia_kernel_sdk.csi.document_index import (
    Document,
    DocumentPath,
    IndexPath,
    SearchFilter,
    SearchRequest,
    SearchResult,
)
from pharia_kernel_sdk.csi.inference import (
    ChatParams,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionParams,
    CompletionRequest,
    ExplanationRequest,
    Granularity,
    Message,
    TextScore,
)
from pharia_kernel_sdk.csi.language import Language, SelectLanguageRequest
from pharia_kernel_sdk.csi.streams import ChatStreamResponse, CompletionStreamResponse
from pharia_kernel_sdk.csi.tool_loop import ToolLoop
from pharia_kernel_sdk.csi.tools import (
    InvokeRequest,
    JsonSerializable,
    Tool,
    ToolError,
    ToolOutput,
    ToolResult,
)

MAX_TOOL_TURNS = 10
"""How often a model may call tools before it has to answer."""


class Csi(ABC):
    """What a skill gets as its first argument.

    Most calls come in two forms: for one request, and ``_concurrent`` for several that are worked
    on at the same time and answered in their order. Errors end the run and never reach the skill,
    except those of tools: a model may know what to do about them.

    To implement it, define the ``_concurrent`` methods, ``documents``, ``documents_metadata``,
    ``list_tools``, ``_completion_stream`` and ``_chat_stream``.
    """

    # --- completion

    def complete(
        self, model: str, prompt: str, params: CompletionParams | None = None
    ) -> Completion:
        """Continues a prompt, which has the format that the model expects."""
        return self.complete_concurrent(
            [CompletionRequest(model, prompt, params or CompletionParams())]
        )[0]

    @abstractmethod
    def complete_concurrent(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """Continues each prompt."""

    def completion_stream(
        self, model: str, prompt: str, params: CompletionParams | None = None
    ) -> CompletionStreamResponse:
        """Continues a prompt; the text can be read while it is generated."""
        return self._completion_stream(model, prompt, params or CompletionParams())

    @abstractmethod
    def _completion_stream(
        self, model: str, prompt: str, params: CompletionParams
    ) -> CompletionStreamResponse: ...

    # --- chat

    def chat(
        self, model: str, messages: list[Message], params: ChatParams | None = None
    ) -> ChatResponse:
        """Lets the model answer a conversation."""
        return self.chat_concurrent([ChatRequest(model, messages, params or ChatParams())])[0]

    @abstractmethod
    def chat_concurrent(self, requests: Sequence[ChatRequest]) -> list[ChatResponse]:
        """Lets models answer each conversation."""

    def chat_stream(
        self,
        model: str,
        messages: list[Message],
        params: ChatParams | None = None,
        tools: list[str] | None = None,
        max_turns: int = MAX_TOOL_TURNS,
    ) -> ChatStreamResponse:
        """Lets the model answer, calling the named tools of the namespace for it.

        The tools that the model asks for in one turn are called concurrently. It learns of their
        results, also of errors, and goes on, until a turn has no more calls. All that the model
        says is one message. ``messages`` stays as it is. Raises ``ValueError`` for a tool that the
        namespace does not have; reading raises ``ToolError`` if the model calls tools in its last
        turn of ``max_turns``.
        """
        if not tools:
            return self.chat_stream_step(model, messages, params)
        offered = self._list_tool_schemas(tools)

        def ask(conversation: list[Message]) -> ChatStreamResponse:
            return self.chat_stream_step(model, conversation, params, offered)

        return ToolLoop(ask, self.invoke_tool_concurrent, messages, max_turns)

    def chat_stream_step(
        self,
        model: str,
        messages: list[Message],
        params: ChatParams | None = None,
        tools: list[Tool] | None = None,
    ) -> ChatStreamResponse:
        """Lets the model answer; the answer can be read while it is generated.

        ``tools`` are offered beside those in ``params``; calling them is up to the skill
        (``response.tool_calls()``).
        """
        params = params or ChatParams()
        if tools:
            # Not ``replace``: the type of ``params`` may be a subclass with a different signature.
            params = ChatParams(**{**params.__dict__, "tools": [*(params.tools or []), *tools]})
        return self._chat_stream(model, messages, params)

    @abstractmethod
    def _chat_stream(
        self, model: str, messages: list[Message], params: ChatParams
    ) -> ChatStreamResponse: ...

    # --- explanation

    def explain(
        self,
        prompt: str,
        target: str,
        model: str,
        granularity: Granularity = Granularity.AUTO,
    ) -> list[TextScore]:
        """Tells which parts of the prompt made the model say the target."""
        return self.explain_concurrent([ExplanationRequest(prompt, target, model, granularity)])[0]

    @abstractmethod
    def explain_concurrent(self, requests: Sequence[ExplanationRequest]) -> list[list[TextScore]]:
        """Explains each target; the scores of each."""

    # --- chunking and languages

    def chunk(self, text: str, params: ChunkParams) -> list[Chunk]:
        """Splits a text into chunks that are as large as the parameters allow."""
        return self.chunk_concurrent([ChunkRequest(text, params)])[0]

    @abstractmethod
    def chunk_concurrent(self, requests: Sequence[ChunkRequest]) -> list[list[Chunk]]:
        """Splits each text."""

    def select_language(self, text: str, languages: list[Language]) -> Language | None:
        """The candidate that the text is most probably in, or None if none is plausible."""
        return self.select_language_concurrent([SelectLanguageRequest(text, languages)])[0]

    @abstractmethod
    def select_language_concurrent(
        self, requests: Sequence[SelectLanguageRequest]
    ) -> list[Language | None]:
        """Judges each text; None where no candidate is plausible."""

    # --- documents

    def search(
        self,
        index_path: IndexPath,
        query: str,
        max_results: int = 1,
        min_score: float | None = None,
        filters: list[SearchFilter] | None = None,
    ) -> list[SearchResult]:
        """Finds the sections of documents whose meaning is closest to the query, best first."""
        request = SearchRequest(index_path, query, max_results, min_score, filters or [])
        return self.search_concurrent([request])[0]

    @abstractmethod
    def search_concurrent(self, requests: Sequence[SearchRequest]) -> list[list[SearchResult]]:
        """Makes each search; the results of each, best first."""

    def document(self, document_path: DocumentPath) -> Document:
        """Loads a document."""
        return self.documents([document_path])[0]

    @abstractmethod
    def documents(self, document_paths: Sequence[DocumentPath]) -> list[Document]:
        """Loads each document."""

    def document_metadata(self, document_path: DocumentPath) -> JsonSerializable:
        """The JSON that was stored beside a document, or None."""
        return self.documents_metadata([document_path])[0]

    @abstractmethod
    def documents_metadata(self, document_paths: Sequence[DocumentPath]) -> list[JsonSerializable]:
        """The JSON that was stored beside each document, or None."""

    # --- tools

    def invoke_tool(self, name: str, **kwargs: Any) -> ToolOutput:
        """Calls a tool with arguments of JSON values. Raises ``ToolError``."""
        result = self.invoke_tool_concurrent([InvokeRequest(name, kwargs)])[0]
        if isinstance(result, ToolError):
            raise result
        return result

    @abstractmethod
    def invoke_tool_concurrent(self, requests: Sequence[InvokeRequest]) -> list[ToolResult]:
        """Calls each tool; errors are among the results."""

    @abstractmethod
    def list_tools(self) -> list[Tool]:
        """All tools that can be called."""

    def _list_tool_schemas(self, names: list[str]) -> list[Tool]:
        known = {tool.name: tool for tool in self.list_tools()}
        if missing := [name for name in names if name not in known]:
            raise ValueError(
                f"The namespace has no tool named {', '.join(missing)}. "
                f"It has: {', '.join(sorted(known)) or 'none'}."
            )
        return [known[name] for name in names]
