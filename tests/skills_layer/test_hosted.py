"""Built-in and chat skills, over a scripted CSI."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from pharia_kernel.csi.api import ToolEvent
from pharia_kernel.csi.types import (
    Argument,
    CallContext,
    ChatEvent,
    ChatRequest,
    FinishReason,
    InvokeRequest,
    Message,
    TextOutput,
    ToolCallDelta,
    Usage,
    UsageEvent,
)
from pharia_kernel.csi.types import MessageAppend as ChatAppend
from pharia_kernel.csi.types import MessageBegin as ChatBegin
from pharia_kernel.csi.types import MessageEnd as ChatEnd
from pharia_kernel.csi.types import Reasoning as ChatReasoning
from pharia_kernel.errors import (
    InvalidInput,
    RunTimedOut,
    SkillFailed,
    SkillNotFound,
    UpstreamTimeout,
    WrongSkillKind,
)
from pharia_kernel.skills.builtin import builtin_skills
from pharia_kernel.skills.chat import ChatSkill
from pharia_kernel.skills.types import (
    MessageAppend,
    MessageBegin,
    MessageEnd,
    StreamEvent,
    ToolBegin,
    ToolEnd,
    ToolError,
)
from tests.skills_layer.support import (
    CALLER,
    Kernel,
    Settings,
    error_of,
    eventually,
    kernel,
    parse,
)


class ScriptedCsi:
    def __init__(self) -> None:
        self.chats: list[ChatRequest] = []
        self.contexts: list[CallContext] = []
        self.invocations: list[tuple[str, list[InvokeRequest]]] = []
        self.events: list[ChatEvent | Exception] = []
        self.tool_answer: list[TextOutput] | str = [TextOutput("3")]
        self.closed = 0
        self.hang: asyncio.Event | None = None

    async def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        self.chats.append(request)
        self.contexts.append(context)
        assert split_reasoning
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield event
            if self.hang:
                await self.hang.wait()
        finally:
            self.closed += 1

    async def invoke_tool(
        self,
        namespace: str,
        requests: list[InvokeRequest],
        context: CallContext,
        on_event: Callable[[ToolEvent], None] | None = None,
    ) -> list[list[TextOutput] | str]:
        assert on_event
        self.invocations.append((namespace, requests))
        on_event(ToolEvent("add"))
        failed = self.tool_answer if isinstance(self.tool_answer, str) else None
        on_event(ToolEvent("add", done=True, error=failed))
        return [self.tool_answer]


ANSWER: list[ChatEvent | Exception] = [
    ChatBegin("assistant"),
    ChatReasoning("hm"),
    ChatAppend("Knock", []),
    ToolCallDelta([]),
    ChatAppend(" knock", []),
    ChatEnd(FinishReason.CONTENT_FILTER),
    UsageEvent(Usage(1, 2)),
]
EVENTS: list[StreamEvent] = [
    MessageBegin(),
    MessageAppend("Knock"),
    MessageAppend(" knock"),
    MessageEnd(Raw(b'"ContentFilter"')),
]
CHAT = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}'


@pytest.fixture
def csi() -> ScriptedCsi:
    return ScriptedCsi()


@pytest.fixture
async def k(csi: ScriptedCsi) -> AsyncGenerator[Kernel, None]:
    async with kernel(csi=csi, builtin=builtin_skills()) as made:
        chat = ChatSkill(version="7", model="m1", system_prompt="Be brief")
        made.store.configure("dev", {"chat": chat})
        yield made


async def stream(k: Kernel, path: str, body: bytes = b"null") -> list[StreamEvent]:
    return [event async for event in await k.runtime.message_stream(parse(path), body, CALLER)]


# --- built in -------------------------------------------------------------------------------------


async def test_hello(k: Kernel) -> None:
    letters: list[StreamEvent] = [MessageAppend(letter) for letter in "Hello"]
    assert await stream(k, "test-beta/hello") == [MessageBegin(), *letters, MessageEnd()]


async def test_saboteur_fails_inside_the_stream(k: Kernel) -> None:
    events = await k.runtime.message_stream(parse("test-beta/saboteur"), b"null", CALLER)
    error = await error_of(anext(events))
    assert isinstance(error, SkillFailed)
    assert error.detail == "Skill is a saboteur"


async def test_tell_me_a_joke(k: Kernel, csi: ScriptedCsi) -> None:
    csi.events = ANSWER
    assert await stream(k, "test-beta/tell_me_a_joke") == EVENTS
    (request,) = csi.chats
    assert request.model == "llama-3.1-8b-instruct"
    assert (request.params.max_tokens, request.params.temperature) == (300, 0.3)
    assert [message.role for message in request.messages] == ["user"]
    (context,) = csi.contexts
    assert (context.token, context.skill) == ("secret", "test-beta/tell_me_a_joke")


async def test_tool_caller(k: Kernel, csi: ScriptedCsi) -> None:
    *events, last, end = await stream(k, "test-beta/tool_caller")
    assert events == [ToolBegin("add"), ToolEnd("add"), MessageBegin()]
    assert isinstance(last, MessageAppend) and last.text.endswith("3")
    assert end == MessageEnd()
    arguments = [Argument("a", Raw(b"1")), Argument("b", Raw(b"2"))]
    assert csi.invocations == [("test-beta", [InvokeRequest("add", arguments)])]


async def test_tool_caller_whose_tool_fails(k: Kernel, csi: ScriptedCsi) -> None:
    csi.tool_answer = "Out of cheese."
    events = await k.runtime.message_stream(parse("test-beta/tool_caller"), b"null", CALLER)
    assert await anext(events) == ToolBegin("add")
    assert await anext(events) == ToolError("add", "Out of cheese.")
    assert isinstance(await error_of(anext(events)), SkillFailed)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("hello", SkillFailed),
        ("tell_me_a_joke", SkillFailed),
        ("tool_caller", SkillFailed),
        ("saboteur", WrongSkillKind),
    ],
)
async def test_none_of_them_is_a_function(k: Kernel, name: str, error: type) -> None:
    raised = await error_of(k.run(f"test-beta/{name}"))
    assert type(raised) is error
    assert "message-stream" in raised.detail


async def test_they_are_neither_listed_nor_cached(k: Kernel) -> None:
    assert [str(info.path) for info in k.runtime.list()] == ["dev/chat"]
    assert k.runtime.cached() == []
    assert not await k.runtime.evict(parse("test-beta/hello"))


async def test_they_can_be_switched_off(csi: ScriptedCsi) -> None:
    async with kernel(csi=csi) as k:
        error = await error_of(k.runtime.message_stream(parse("test-beta/hello"), b"1", CALLER))
        assert isinstance(error, SkillNotFound)


# --- chat skills ----------------------------------------------------------------------------------


async def test_a_chat_continues_the_conversation(k: Kernel, csi: ScriptedCsi) -> None:
    csi.events = ANSWER
    assert await stream(k, "dev/chat", CHAT) == EVENTS
    (request,) = csi.chats
    assert request.model == "m1"
    assert request.messages == [
        Message(role="system", content="Be brief"),
        Message(role="user", content="Hi"),
        Message(role="assistant", content="Ho"),
    ]
    assert request.params.max_tokens is None
    assert csi.closed == 1


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"{}",
        b'{"messages": "x"}',
        b'{"messages": [{"role": "tool", "content": "x"}]}',
        b'{"messages": [{"role": "user"}]}',
    ],
)
async def test_other_inputs_are_invalid(k: Kernel, csi: ScriptedCsi, body: bytes) -> None:
    events = await k.runtime.message_stream(parse("dev/chat"), body, CALLER)
    assert isinstance(await error_of(anext(events)), InvalidInput)
    assert not csi.chats


async def test_an_upstream_error_ends_the_stream(k: Kernel, csi: ScriptedCsi) -> None:
    csi.events = [*ANSWER[:3], UpstreamTimeout("slow")]
    events = await k.runtime.message_stream(parse("dev/chat"), CHAT, CALLER)
    assert [await anext(events), await anext(events)] == EVENTS[:2]
    assert isinstance(await error_of(anext(events)), UpstreamTimeout)


async def test_closing_the_stream_closes_the_upstream(k: Kernel, csi: ScriptedCsi) -> None:
    csi.events, csi.hang = ANSWER[:3], asyncio.Event()
    events = await k.runtime.message_stream(parse("dev/chat"), CHAT, CALLER)
    assert await anext(events) == MessageBegin()
    await events.aclose()
    assert csi.closed == 1


async def test_a_slow_client_slows_the_upstream(k: Kernel, csi: ScriptedCsi) -> None:
    read = 0

    class Counted(list[Any]):
        def __iter__(self) -> Any:
            nonlocal read
            yield ChatBegin("assistant")
            while read < 1000:
                read += 1
                yield ChatAppend("x", [])

    csi.events = Counted()
    events = await k.runtime.message_stream(parse("dev/chat"), CHAT, CALLER)
    await eventually(lambda: read > 10)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert read < 100
    assert len([event async for event in events]) == 1001


async def test_the_deadline_holds_for_chats(csi: ScriptedCsi) -> None:
    csi.hang = asyncio.Event()
    async with kernel(csi=csi, settings=Settings(run_timeout=0.05)) as k:
        k.store.configure("dev", {"chat": ChatSkill("1", "m", "p")})
        events = await k.runtime.message_stream(parse("dev/chat"), CHAT, CALLER)
        assert isinstance(await error_of(anext(events)), RunTimedOut)
    assert csi.closed == 1


async def test_metadata(k: Kernel) -> None:
    chat = await k.runtime.metadata(parse("dev/chat"), CALLER)
    decoded = json.loads(msgspec.json.encode(chat))
    assert (decoded["description"], decoded["version"]) == ("A chat skill", "0.3")
    assert (decoded["skill_type"], decoded["output_schema"]) == ("message_stream", None)
    assert "messages" in json.dumps(decoded["input_schema"])

    hello = await k.runtime.metadata(parse("test-beta/hello"), CALLER)
    assert json.loads(msgspec.json.encode(hello)) == {
        "description": None,
        "version": None,
        "skill_type": "message_stream",
        "input_schema": None,
        "output_schema": None,
    }


async def test_chat_is_not_a_function(k: Kernel) -> None:
    assert isinstance(await error_of(k.run("dev/chat")), WrongSkillKind)


async def test_a_changed_chat_is_replaced(k: Kernel, csi: ScriptedCsi) -> None:
    k.store.configure("dev", {"chat": ChatSkill(version="8", model="m2", system_prompt="x")})
    await stream(k, "dev/chat", CHAT)
    assert csi.chats[0].model == "m2"
