from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest

from pharia_kernel.csi.api import ToolEvent
from pharia_kernel.csi.service import CsiService
from pharia_kernel.csi.types import (
    Argument,
    CallContext,
    ChatEvent,
    ChatParams,
    ChatRequest,
    ChatResponse,
    ChunkParams,
    ChunkRequest,
    Completion,
    CompletionEvent,
    CompletionParams,
    CompletionRequest,
    DocumentPath,
    ExplanationRequest,
    FinishReason,
    IndexPath,
    InvokeRequest,
    Message,
    MessageBegin,
    SearchRequest,
    SelectLanguageRequest,
    TextOutput,
    TextScore,
    Usage,
)
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import ModelNotFound, NotConfigured, NotFound, ToolFailed

CONTEXT = CallContext(namespace="playground")
NOBODY = CsiService(None, Toolbox())


class Backend:
    """An inference driver; ``before`` is awaited with the model's name before each answer."""

    def __init__(self, before: Callable[[str], Any]) -> None:
        self._before = before
        self.contexts: list[CallContext] = []
        self.split_reasoning: list[bool] = []

    async def chat(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> ChatResponse:
        self.contexts.append(context)
        self.split_reasoning.append(split_reasoning)
        await self._before(request.model)
        message = Message(role="assistant", content=request.model)
        return ChatResponse(message, FinishReason.STOP, [], Usage(1, 1))

    async def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        self.split_reasoning.append(split_reasoning)
        yield MessageBegin(request.model)

    async def complete(self, request: CompletionRequest, context: CallContext) -> Completion:
        await self._before(request.model)
        return Completion(request.model, FinishReason.STOP, [], Usage(1, 1))

    async def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        raise ModelNotFound(request.model)
        yield

    async def explain(self, request: ExplanationRequest, context: CallContext) -> list[TextScore]:
        await self._before(request.model)
        return [TextScore(0, len(request.model), 1.0)]

    async def close(self) -> None:
        pass


def chat(model: str) -> ChatRequest:
    return ChatRequest(model, [], ChatParams())


def completion(model: str) -> CompletionRequest:
    return CompletionRequest(model, "", CompletionParams())


def explanation(model: str) -> ExplanationRequest:
    return ExplanationRequest("prompt", "target", model, "auto")


async def chat_all(service: CsiService, models: list[str]) -> list[Any]:
    responses = await service.chat([chat(m) for m in models], CONTEXT, split_reasoning=True)
    return [response.message.content for response in responses]


async def complete_all(service: CsiService, models: list[str]) -> list[Any]:
    completions = await service.complete([completion(m) for m in models], CONTEXT)
    return [c.text for c in completions]


async def explain_all(service: CsiService, models: list[str]) -> list[Any]:
    explanations = await service.explain([explanation(m) for m in models], CONTEXT)
    by_length = {len(model): model for model in models}
    return [by_length[scores[0].length] for scores in explanations]


Batch = Callable[[CsiService, list[str]], Any]
batches = pytest.mark.parametrize("batch", [chat_all, complete_all, explain_all])


@batches
async def test_a_batch_runs_concurrently_and_keeps_its_order(batch: Batch) -> None:
    finished = {model: asyncio.Event() for model in ("a", "bb", "ccc")}
    started = asyncio.Barrier(3)

    async def last_one_first(model: str) -> None:
        await started.wait()
        if following := {"a": "bb", "bb": "ccc"}.get(model):
            await finished[following].wait()
        finished[model].set()

    service = CsiService(Backend(last_one_first), Toolbox())
    async with asyncio.timeout(10):
        assert await batch(service, ["a", "bb", "ccc"]) == ["a", "bb", "ccc"]


@batches
async def test_first_error_cancels_the_other_requests(batch: Batch) -> None:
    started = asyncio.Barrier(3)
    cancelled: list[str] = []

    async def fail_or_hang(model: str) -> None:
        try:
            await started.wait()
            if model == "unknown":
                raise ModelNotFound("unknown")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(model)
            raise

    service = CsiService(Backend(fail_or_hang), Toolbox())
    async with asyncio.timeout(10):
        with pytest.raises(ModelNotFound):
            await batch(service, ["a", "unknown", "b"])
    assert sorted(cancelled) == ["a", "b"]


@batches
async def test_an_empty_batch_asks_nobody(batch: Batch) -> None:
    service = CsiService(Backend(lambda _: pytest.fail("was asked")), Toolbox())
    assert await batch(service, []) == []


async def test_ten_thousand_requests_in_one_batch() -> None:
    barrier = asyncio.Barrier(10_000)

    async def all_at_once(_: str) -> None:
        await barrier.wait()

    service = CsiService(Backend(all_at_once), Toolbox())
    models = [str(number) for number in range(10_000)]
    async with asyncio.timeout(60):
        assert await chat_all(service, models) == models


@pytest.mark.parametrize("split", [True, False])
async def test_the_driver_learns_who_asks_and_on_which_path(split: bool) -> None:
    async def at_once(_: str) -> None:
        pass

    backend = Backend(at_once)
    service = CsiService(backend, Toolbox())
    await service.chat([chat("m")], CONTEXT, split_reasoning=split)
    events = [e async for e in service.chat_stream(chat("m"), CONTEXT, split_reasoning=split)]
    assert events == [MessageBegin("m")]
    assert backend.split_reasoning == [split, split]
    assert backend.contexts == [CONTEXT]


async def test_errors_of_a_stream_come_when_it_is_read() -> None:
    async def at_once(_: str) -> None:
        pass

    stream = CsiService(Backend(at_once), Toolbox()).completion_stream(completion("m"), CONTEXT)
    with pytest.raises(ModelNotFound):
        await anext(stream)


# --- what is not there ----------------------------------------------------------------------------

PATH = DocumentPath("namespace", "collection", "name")
SEARCH = SearchRequest(index_path=IndexPath("n", "c", "i"), query="", max_results=1)
WITHOUT_DRIVER: dict[str, Callable[[], Any]] = {
    "chat": lambda: NOBODY.chat([chat("m")], CONTEXT, split_reasoning=True),
    "chat_stream": lambda: anext(NOBODY.chat_stream(chat("m"), CONTEXT, split_reasoning=True)),
    "complete": lambda: NOBODY.complete([completion("m")], CONTEXT),
    "completion_stream": lambda: anext(NOBODY.completion_stream(completion("m"), CONTEXT)),
    "explain": lambda: NOBODY.explain([explanation("m")], CONTEXT),
    "chunk": lambda: NOBODY.chunk([ChunkRequest("text", ChunkParams("m", 10))], CONTEXT),
    "select_language": lambda: NOBODY.select_language(
        [SelectLanguageRequest("text", ["eng"])], CONTEXT
    ),
    "search": lambda: NOBODY.search([SEARCH], CONTEXT),
    "documents": lambda: NOBODY.documents([PATH], CONTEXT),
    "document_metadata": lambda: NOBODY.document_metadata([PATH], CONTEXT),
}


@pytest.mark.parametrize("call", WITHOUT_DRIVER.values(), ids=list(WITHOUT_DRIVER))
async def test_without_a_driver_a_call_is_not_configured(call: Callable[[], Any]) -> None:
    with pytest.raises(NotConfigured) as caught:
        await call()
    assert caught.value.status == 503


# --- tools ----------------------------------------------------------------------------------------


def invocation(name: str, **arguments: Any) -> InvokeRequest:
    return InvokeRequest(
        name, [Argument(k, msgspec.Raw(msgspec.json.encode(v))) for k, v in arguments.items()]
    )


class SlowToolbox(Toolbox):
    """Each call waits for its turn."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.turn = {name: asyncio.Event() for name in names}

    async def invoke(
        self,
        namespace: str,
        name: str,
        arguments: list[Argument],
        context: CallContext | None = None,
    ) -> list[TextOutput]:
        await self.turn[name].wait()
        if name == "bad":
            raise ToolFailed("broken")
        return [TextOutput(name)]


def toolbox(*names: str) -> Toolbox:
    box = Toolbox()
    box.set_native("playground", names)
    return box


async def test_each_slot_has_its_own_output_or_error() -> None:
    service = CsiService(None, toolbox("add", "subtract", "saboteur"))
    requests = [
        invocation("add", a=1, b=2),
        invocation("saboteur"),
        invocation("subtract", a=1, b=2),
        invocation("nonsense"),
    ]
    assert await service.invoke_tool("playground", requests, CONTEXT) == [
        [TextOutput("3")],
        "Out of cheese.",
        [TextOutput("-1")],
        "Tool nonsense not found on any server.",
    ]


async def test_all_begin_before_any_is_called_and_each_ends_when_it_is_done() -> None:
    box = SlowToolbox("slow", "bad", "fast")
    service = CsiService(None, box)
    seen: list[ToolEvent] = []
    changed = asyncio.Event()

    def on_event(event: ToolEvent) -> None:
        seen.append(event)
        changed.set()

    async def events(count: int) -> list[ToolEvent]:
        while len(seen) < count:
            changed.clear()
            await changed.wait()
        return seen[-1:]

    begun = [ToolEvent("slow"), ToolEvent("bad"), ToolEvent("fast")]
    async with asyncio.timeout(10):
        call = asyncio.create_task(
            service.invoke_tool(
                "playground", [invocation(e.name) for e in begun], CONTEXT, on_event
            )
        )
        await events(3)
        assert seen == begun
        box.turn["fast"].set()
        assert await events(4) == [ToolEvent("fast", done=True)]
        box.turn["bad"].set()
        assert await events(5) == [ToolEvent("bad", done=True, error="broken")]
        box.turn["slow"].set()
        assert await events(6) == [ToolEvent("slow", done=True)]
        assert await call == [[TextOutput("slow")], "broken", [TextOutput("fast")]]
    assert len(seen) == 6


async def test_events_are_all_there_when_the_call_returns() -> None:
    service = CsiService(None, toolbox("add"))
    seen: list[ToolEvent] = []
    requests = [invocation("add", a=n, b=n) for n in range(1000)]
    await service.invoke_tool("playground", requests, CONTEXT, seen.append)
    assert seen == [ToolEvent("add")] * 1000 + [ToolEvent("add", done=True)] * 1000


async def test_list_tools_of_a_namespace() -> None:
    service = CsiService(None, toolbox("subtract", "add"))
    assert [t.name for t in await service.list_tools("playground", CONTEXT)] == ["add", "subtract"]


async def test_list_tools_of_an_unknown_namespace_names_it() -> None:
    with pytest.raises(NotFound, match="playground"):
        await NOBODY.list_tools("playground", CONTEXT)
