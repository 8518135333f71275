"""The skills of namespace ``test-beta``: for trying out a kernel without deploying anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec import Raw, Struct

from pharia_kernel.csi.types import Argument, ChatParams, ChatRequest, InvokeRequest, Message
from pharia_kernel.errors import SkillFailed
from pharia_kernel.skills.chat import chat_events
from pharia_kernel.skills.hosted import HostedRun, HostedSkill
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    MessageAppend,
    MessageBegin,
    MessageEnd,
    SkillKind,
    SkillMetadata,
    StreamEvent,
)

NAMESPACE = "test-beta"


class _Stream(Struct, frozen=True):
    """A stream skill without metadata of its own, which fails on ``/run`` as a skill that is not
    meant to.
    """

    def metadata(self) -> SkillMetadata:
        return SkillMetadata(None, None, SkillKind.MESSAGE_STREAM, None, None)

    def refuse_run(self) -> None:
        raise SkillFailed("The skill only streams: use the `/message-stream` endpoint.")


class Hello(_Stream, frozen=True):
    async def stream(self, run: HostedRun) -> AsyncGenerator[StreamEvent, None]:
        yield MessageBegin()
        for letter in "Hello":
            yield MessageAppend(letter)
        yield MessageEnd()


class Saboteur(_Stream, frozen=True):
    def refuse_run(self) -> None:
        """Nothing to add: it is an ordinary stream skill that was called the wrong way."""

    async def stream(self, run: HostedRun) -> AsyncGenerator[StreamEvent, None]:
        raise SkillFailed("Skill is a saboteur")
        yield  # makes it a generator


class TellMeAJoke(_Stream, frozen=True):
    async def stream(self, run: HostedRun) -> AsyncGenerator[StreamEvent, None]:
        request = ChatRequest(
            model="llama-3.1-8b-instruct",
            messages=[Message(role="user", content="Tell me a joke!")],
            params=ChatParams(max_tokens=300, temperature=0.3),
        )
        async with aclosing(chat_events(run, request)) as events:
            async for event in events:
                yield event


class ToolCaller(_Stream, frozen=True):
    async def stream(self, run: HostedRun) -> AsyncGenerator[StreamEvent, None]:
        arguments = [Argument("a", Raw(b"1")), Argument("b", Raw(b"2"))]
        (answer,) = await run.csi.invoke_tool(
            NAMESPACE, [InvokeRequest("add", arguments)], run.context, run.on_tool_event
        )
        if isinstance(answer, str):
            raise SkillFailed(f"Tool `add` failed: {answer}")
        yield MessageBegin()
        yield MessageAppend(f"The sum of 1 and 2 is {''.join(part.text for part in answer)}")
        yield MessageEnd()


def builtin_skills() -> dict[SkillPath, HostedSkill]:
    return {
        SkillPath(NAMESPACE, "hello"): Hello(),
        SkillPath(NAMESPACE, "saboteur"): Saboteur(),
        SkillPath(NAMESPACE, "tell_me_a_joke"): TellMeAJoke(),
        SkillPath(NAMESPACE, "tool_caller"): ToolCaller(),
    }
