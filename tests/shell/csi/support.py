"""An in-memory CSI that records what it is asked, and what a client may send to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from msgspec import Raw

from pharia_kernel.csi.api import ToolEvent
from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Chunk,
    ChunkRequest,
    Completion,
    CompletionAppend,
    CompletionEnd,
    CompletionEvent,
    CompletionRequest,
    Distribution,
    Document,
    DocumentPath,
    ExplanationRequest,
    FinishReason,
    ImageModality,
    InvokeRequest,
    Logprob,
    Message,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    SearchRequest,
    SearchResult,
    SelectLanguageRequest,
    TextCursor,
    TextModality,
    TextOutput,
    TextScore,
    Tool,
    ToolCall,
    Usage,
    UsageEvent,
)

LOGPROBS = [
    Distribution(Logprob(b"\xff\x00", float("nan")), [Logprob(b"a", -0.5), Logprob(b"", -1.0)])
]
LOGPROBS_JSON = [
    {
        "sampled": {"token": [255, 0], "logprob": None},
        "top": [{"token": [97], "logprob": -0.5}, {"token": [], "logprob": -1.0}],
    }
]
CALL = ToolCall("1", "add", "{}")
DOCUMENT = DocumentPath("kernel", "docs", "intro")


class RecordingCsi:
    """Answers every call the same way, unless ``outcome`` is set: what it returns is the answer,
    what it raises is the error. ``streams`` replaces both streams."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, CallContext]] = []
        self.split_reasoning: list[bool] = []
        self.outcome: Callable[[Any], Any] | None = None
        self.stream: Callable[[], AsyncGenerator[Any, None]] | None = None

    def _answer(self, name: str, requests: Any, context: CallContext, usual: Any) -> Any:
        self.calls.append((name, requests, context))
        return usual if self.outcome is None else self.outcome(requests)

    def _events(
        self, name: str, request: Any, context: CallContext, usual: list[Any]
    ) -> AsyncGenerator[Any, None]:
        self.calls.append((name, request, context))
        return self.stream() if self.stream else emits(*usual)

    async def chat(
        self, requests: list[ChatRequest], context: CallContext, *, split_reasoning: bool
    ) -> list[ChatResponse]:
        self.split_reasoning.append(split_reasoning)
        message = Message(
            role="assistant",
            content="Paris.",
            reasoning_content="hm" if split_reasoning else None,
            tool_calls=[ToolCall("1", "add", "{}")]
            if requests and requests[0].params.tools
            else None,
        )
        answer = ChatResponse(message, FinishReason.STOP, LOGPROBS, Usage(12, 3))
        return self._answer("chat", requests, context, [answer for _ in requests])  # type: ignore[no-any-return]

    def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        self.split_reasoning.append(split_reasoning)
        events: list[ChatEvent] = [MessageBegin("assistant")]
        if split_reasoning:
            events.append(Reasoning("hm"))
        events += [
            MessageAppend("Pa", LOGPROBS),
            MessageAppend("ris.", []),
            MessageEnd(FinishReason.STOP),
            UsageEvent(Usage(12, 3)),
        ]
        return self._events("chat_stream", request, context, events)

    async def complete(
        self, requests: list[CompletionRequest], context: CallContext
    ) -> list[Completion]:
        answer = Completion(" keeps", FinishReason.LENGTH, LOGPROBS, Usage(12, 3))
        return self._answer("complete", requests, context, [answer for _ in requests])  # type: ignore[no-any-return]

    def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        events = [
            CompletionAppend(" ke", LOGPROBS),
            CompletionAppend("eps", []),
            CompletionEnd(FinishReason.LENGTH),
            UsageEvent(Usage(12, 3)),
        ]
        return self._events("completion_stream", request, context, events)

    async def explain(
        self, requests: list[ExplanationRequest], context: CallContext
    ) -> list[list[TextScore]]:
        answer = [TextScore(3, 5, 0.75)]
        return self._answer("explain", requests, context, [answer for _ in requests])  # type: ignore[no-any-return]

    async def chunk(self, requests: list[ChunkRequest], context: CallContext) -> list[list[Chunk]]:
        answer = [
            [Chunk("One.", 0, 0), Chunk("Two.", 5, 5)]
            if request.character_offsets
            else [Chunk("One.", 0, None), Chunk("Two.", 5, None)]
            for request in requests
        ]
        return self._answer("chunk", requests, context, answer)  # type: ignore[no-any-return]

    async def select_language(
        self, requests: list[SelectLanguageRequest], context: CallContext
    ) -> list[str | None]:
        answer = [r.languages[-1] if r.languages else None for r in requests]
        return self._answer("select_language", requests, context, answer)  # type: ignore[no-any-return]

    async def search(
        self, requests: list[SearchRequest], context: CallContext
    ) -> list[list[SearchResult]]:
        answer = [SearchResult(DOCUMENT, "A skill.", 0.875, TextCursor(0, 0), TextCursor(0, 7))]
        return self._answer("search", requests, context, [answer for _ in requests])  # type: ignore[no-any-return]

    async def documents(self, requests: list[DocumentPath], context: CallContext) -> list[Document]:
        contents: list[TextModality | ImageModality] = [TextModality("A skill."), ImageModality()]
        answer = [Document(path, contents, Raw(b'{"year":2024}')) for path in requests]
        return self._answer("documents", requests, context, answer)  # type: ignore[no-any-return]

    async def document_metadata(
        self, requests: list[DocumentPath], context: CallContext
    ) -> list[Raw | None]:
        answer = [Raw(b'{"year":2024}') if path == DOCUMENT else None for path in requests]
        return self._answer("document_metadata", requests, context, answer)  # type: ignore[no-any-return]

    async def invoke_tool(
        self,
        namespace: str,
        requests: list[InvokeRequest],
        context: CallContext,
        on_event: Callable[[ToolEvent], None] | None = None,
    ) -> list[list[TextOutput] | str]:
        answer = [[TextOutput("3")] if r.name == "add" else "Out of cheese." for r in requests]
        return self._answer("invoke_tool", (namespace, requests), context, answer)  # type: ignore[no-any-return]

    async def list_tools(self, namespace: str, context: CallContext) -> list[Tool]:
        answer = [Tool("add", "Add two numbers", Raw(b'{"type":"object"}'))]
        return self._answer("list_tools", namespace, context, answer)  # type: ignore[no-any-return]


async def emits(*events: Any, then: Exception | None = None) -> AsyncGenerator[Any, None]:
    for event in events:
        yield event
    if then is not None:
        raise then


class HangingStream:
    """Emits its events and then nothing; tells when it hangs and how it ended."""

    def __init__(self, *events: Any) -> None:
        self._events = events
        self.hangs = asyncio.Event()
        self.ended: asyncio.Queue[type[BaseException]] = asyncio.Queue()

    async def __call__(self) -> AsyncGenerator[Any, None]:
        try:
            for event in self._events:
                yield event
            self.hangs.set()
            await asyncio.Event().wait()
        except BaseException as error:
            self.ended.put_nowait(type(error))
            raise


def raises(error: Exception) -> Callable[[Any], Any]:
    def outcome(requests: Any) -> Any:
        raise error

    return outcome


COMPLETION = {
    "model": "m",
    "prompt": "An apple a day",
    "params": {
        "return_special_tokens": True,
        "max_tokens": 16,
        "temperature": None,
        "top_k": 3,
        "stop": ["."],
        "logprobs": {"top": 2},
        "echo": True,
        "from_the_future": 1,
    },
}
CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Capital of France?"},
    ],
    "params": {"max_tokens": 64, "temperature": 0.5, "logprobs": "sampled"},
}
TEXT_CHUNK = {"text": "One. Two.", "params": {"model": "m", "max_tokens": 4, "overlap": 1}}
PATH = {"namespace": "kernel", "collection": "docs", "name": "intro"}
EXPLANATION = {"prompt": "p", "target": "t", "model": "m", "granularity": "word"}
SEARCH = {
    "index_path": {"namespace": "kernel", "collection": "docs", "index": "asymmetric"},
    "query": "skill",
    "max_results": 2,
    "min_score": 0.5,
    "filters": [
        {"with": [{"metadata": {"field": "year", "greater_than": 2023}}]},
        {"without": [{"metadata": {"field": "a[].b", "is_null": True}}]},
        {"with_one_of": [{"metadata": {"field": "draft", "equal_to": False}}]},
    ],
}
LANGUAGE = {"text": "Ein Apfel", "languages": ["eng", "deu"]}
TOOL_CALLS = {
    "namespace": "dev",
    "requests": [
        {
            "name": "add",
            "arguments": [{"name": "a", "value": 1}, {"name": "b", "value": {"c": []}}],
        },
        {"name": "saboteur", "arguments": []},
    ],
}
