"""The kernel that a test writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import pytest

from pharia_kernel_sdk.csi.chunking import Chunk, ChunkRequest
from pharia_kernel_sdk.csi.document_index import (
    Document,
    DocumentPath,
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
    Message,
    TextScore,
)
from pharia_kernel_sdk.csi.language import Language, SelectLanguageRequest
from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.csi.requests import checked
from pharia_kernel_sdk.csi.streams import ChatStreamResponse, CompletionStreamResponse
from pharia_kernel_sdk.csi.tools import InvokeRequest, JsonSerializable, Tool, ToolResult
from pharia_kernel_sdk.pytest_plugin.answers import answer_to
from pharia_kernel_sdk.pytest_plugin.script import Condition, Function, Rule, Script
from pharia_kernel_sdk.pytest_plugin.showing import excerpt
from pharia_kernel_sdk.testing.stub import ScriptedChatStream, ScriptedCompletionStream

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A call that the skill made; ``request`` is None for ``list_tools``."""

    function: str
    request: Any


class ScriptedCsi(Csi):
    """Answers as a test says (``on``), and leaves what no rule is for to a recording, if there is
    one. A call that nothing answers fails the test.

    ``fallback`` makes the recording's ``Csi`` on first use, or returns None. ``advice`` tells how
    to record.
    """

    def __init__(self, fallback: Callable[[], Csi | None] = lambda: None, advice: str = "") -> None:
        self.calls: list[Call] = []
        """All calls, in order."""
        self._script = Script()
        self._fallback = fallback
        self._advice = advice

    def on(
        self,
        function: Function,
        where: Condition | None = None,
        *,
        contains: str | None = None,
        **fields: Any,
    ) -> Rule:
        """Adds a rule for calls of ``function``, to be followed by ``.answer(...)`` or
        ``.always(...)``.

        ``where`` is a function of the request (``ChatRequest``, ``InvokeRequest``...; of documents
        the ``DocumentPath``, of ``list_tools`` None). ``contains`` is a text that the request's
        JSON has in it. ``fields`` are attributes of the request and their values, such as
        ``model="..."``, or ``name="add"`` for a tool. Raises ``ValueError``.
        """
        return self._script.add(Rule(function, where, contains, fields))

    def verify(self) -> None:
        """Fails the test if answers are left that were scripted for one call each."""
        if unused := self._script.unused():
            rules = "\n".join(f"  {rule}" for rule in unused)
            made = ", ".join(call.function for call in self.calls) or "none"
            pytest.fail(
                f"The skill made fewer calls than the test has scripted.\n{rules}\n"
                f"Calls that it made: {made}",
                pytrace=False,
            )

    # --- calls

    def complete_concurrent(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        checked(CompletionRequest, requests)
        return self._each("complete", requests, lambda csi, rest: csi.complete_concurrent(rest))

    def _completion_stream(
        self, model: str, prompt: str, params: CompletionParams
    ) -> CompletionStreamResponse:
        request = CompletionRequest(model, prompt, params)
        checked(CompletionRequest, [request])
        return self._one(
            "completion_stream",
            request,
            ScriptedCompletionStream,
            lambda csi: csi.completion_stream(model, prompt, params),
        )

    def chat_concurrent(self, requests: Sequence[ChatRequest]) -> list[ChatResponse]:
        checked(ChatRequest, requests)
        return self._each("chat", requests, lambda csi, rest: csi.chat_concurrent(rest))

    def _chat_stream(
        self, model: str, messages: list[Message], params: ChatParams
    ) -> ChatStreamResponse:
        # The list may grow behind our back; what is remembered is what was said at this point.
        request = ChatRequest(model, list(messages), params)
        checked(ChatRequest, [request])
        return self._one(
            "chat_stream",
            request,
            ScriptedChatStream,
            lambda csi: csi.chat_stream_step(model, messages, params),
        )

    def explain_concurrent(self, requests: Sequence[ExplanationRequest]) -> list[list[TextScore]]:
        checked(ExplanationRequest, requests)
        return self._each("explain", requests, lambda csi, rest: csi.explain_concurrent(rest))

    def chunk_concurrent(self, requests: Sequence[ChunkRequest]) -> list[list[Chunk]]:
        checked(ChunkRequest, requests)
        return self._each("chunk", requests, lambda csi, rest: csi.chunk_concurrent(rest))

    def select_language_concurrent(
        self, requests: Sequence[SelectLanguageRequest]
    ) -> list[Language | None]:
        checked(SelectLanguageRequest, requests)
        return self._each(
            "select_language", requests, lambda csi, rest: csi.select_language_concurrent(rest)
        )

    def search_concurrent(self, requests: Sequence[SearchRequest]) -> list[list[SearchResult]]:
        checked(SearchRequest, requests)
        return self._each("search", requests, lambda csi, rest: csi.search_concurrent(rest))

    def documents(self, document_paths: Sequence[DocumentPath]) -> list[Document]:
        checked(DocumentPath, document_paths)
        return self._each("document", document_paths, lambda csi, rest: csi.documents(rest))

    def documents_metadata(self, document_paths: Sequence[DocumentPath]) -> list[JsonSerializable]:
        checked(DocumentPath, document_paths)
        return self._each(
            "document_metadata", document_paths, lambda csi, rest: csi.documents_metadata(rest)
        )

    def invoke_tool_concurrent(self, requests: Sequence[InvokeRequest]) -> list[ToolResult]:
        checked(InvokeRequest, requests)
        return self._each(
            "invoke_tool", requests, lambda csi, rest: csi.invoke_tool_concurrent(rest)
        )

    def list_tools(self) -> list[Tool]:
        return list(
            self._one("list_tools", None, lambda tools: tools, lambda csi: csi.list_tools())
        )

    # --- answers

    def _each(
        self, function: str, requests: Sequence[Any], ask: Callable[[Csi, list[Any]], list[Any]]
    ) -> list[Any]:
        """Scripted answers, and in one call of the recording all the others."""
        answers: dict[int, Any] = {}
        open_: list[int] = []
        for place, request in enumerate(requests):
            self.calls.append(Call(function, request))
            rule = self._script.find(function, request)
            if rule is None:
                open_.append(place)
            else:
                answers[place] = answer_to(function, request, rule.take(request))
        if open_:
            rest = [requests[place] for place in open_]
            answers.update(zip(open_, ask(self._recorded(function, rest[0]), rest), strict=True))
        return [answers[place] for place in range(len(requests))]

    def _one(
        self,
        function: str,
        request: Any,
        made: Callable[[Any], T],
        ask: Callable[[Csi], T],
    ) -> T:
        self.calls.append(Call(function, request))
        rule = self._script.find(function, request)
        if rule is None:
            return ask(self._recorded(function, request))
        return made(answer_to(function, request, rule.take(request)))

    def _recorded(self, function: str, request: Any) -> Csi:
        return self._fallback() or self._refuse(function, request)

    def _refuse(self, function: str, request: Any) -> NoReturn:
        pytest.fail(
            f"The skill made a call that has no answer: {function}\n{excerpt(request)}\n\n"
            f"The script, in order:\n{self._script}\n\n"
            f'Script an answer with csi.on("{function}").answer(...){self._advice}',
            pytrace=False,
        )
