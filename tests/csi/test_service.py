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
    Function,
    IndexPath,
    InvokeRequest,
    Message,
    MessageBegin,
    NamedTool,
    SearchRequest,
    SelectLanguageRequest,
    TextOutput,
    TextScore,
    Usage,
)
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import (
    InvalidCsiRequest,
    ModelNotFound,
    NotConfigured,
    NotFound,
    ToolFailed,
)

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


# --- the tools that a skill may use ---------------------------------------------------------------

ALLOWED = CallContext(namespace="playground", allowed_tools=frozenset({"add", "nonsense"}))


async def test_other_tools_do_not_exist_for_the_skill() -> None:
    service = CsiService(None, toolbox("add", "subtract"))
    assert [tool.name for tool in await service.list_tools("playground", ALLOWED)] == ["add"]
    requests = [invocation(name, a=3, b=2) for name in ("add", "subtract", "nonsense")]
    seen: list[ToolEvent] = []
    assert await service.invoke_tool("playground", requests, ALLOWED, seen.append) == [
        [TextOutput("5")],
        "Tool subtract not found on any server.",
        "Tool nonsense not found on any server.",
    ]
    assert sorted(event.name for event in seen if event.error) == ["nonsense", "subtract"]


async def offered(
    tools: list[str] | None, context: CallContext, **params: Any
) -> tuple[list[str] | None, ChatParams]:
    """What a model is offered, alike for chats and streams."""
    seen: list[ChatRequest] = []

    class Listener(Backend):
        async def chat(self, request: ChatRequest, *args: Any, **options: Any) -> ChatResponse:
            seen.append(request)
            return await super().chat(request, *args, **options)

        def chat_stream(
            self, request: ChatRequest, *args: Any, **options: Any
        ) -> AsyncGenerator[ChatEvent, None]:
            seen.append(request)
            return super().chat_stream(request, *args, **options)

    async def at_once(_: str) -> None:
        pass

    service = CsiService(Listener(at_once), toolbox("add", "subtract"))
    functions = None if tools is None else [Function(name=name) for name in tools]
    asked = ChatRequest("m", [], ChatParams(tools=functions, **params))
    await service.chat([asked], context, split_reasoning=True)
    stream = service.chat_stream(asked, context, split_reasoning=True)
    assert [event async for event in stream]
    (one, other) = seen
    assert one == other
    names = None if one.params.tools is None else [tool.name for tool in one.params.tools]
    return names, one.params


async def test_a_model_is_not_offered_what_the_skill_may_not_call() -> None:
    tools = ["add", "subtract", "function-of-the-skill"]
    assert (await offered(tools, CONTEXT))[0] == tools
    assert (await offered(tools, ALLOWED))[0] == ["add", "function-of-the-skill"]
    assert (await offered(None, ALLOWED))[0] is None


async def test_a_model_that_is_offered_nothing_need_not_choose() -> None:
    for choice in ("auto", "required"):
        names, params = await offered(
            ["subtract"], ALLOWED, tool_choice=choice, parallel_tool_calls=True
        )
        assert (names, params.tool_choice, params.parallel_tool_calls) == (None, None, None)


async def test_a_choice_of_a_tool_that_does_not_exist_for_the_skill_is_refused() -> None:
    with pytest.raises(InvalidCsiRequest, match="subtract"):
        await offered(["add", "subtract"], ALLOWED, tool_choice=NamedTool("subtract"))
    _, params = await offered(["add", "subtract"], ALLOWED, tool_choice=NamedTool("add"))
    assert params.tool_choice == NamedTool("add")
