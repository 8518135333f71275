"""Chat skills: a model and a system prompt from the configuration, without a component."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from pharia_kernel.csi.types import ChatParams, ChatRequest, Message
from pharia_kernel.csi.types import MessageAppend as ChatAppend
from pharia_kernel.csi.types import MessageBegin as ChatBegin
from pharia_kernel.csi.types import MessageEnd as ChatEnd
from pharia_kernel.errors import InvalidInput
from pharia_kernel.skills.hosted import HostedRun
from pharia_kernel.skills.types import (
    MessageAppend,
    MessageBegin,
    MessageEnd,
    SkillKind,
    SkillMetadata,
    StreamEvent,
)


class ChatMessage(Struct):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatInput(Struct):
    messages: list[ChatMessage]


class ChatSkill(Struct, frozen=True):
    """A stream skill that continues a conversation."""

    version: str
    """For people only; a new one makes the skill count as changed."""
    model: str
    system_prompt: str

    def metadata(self) -> SkillMetadata:
        schema = Raw(msgspec.json.encode(msgspec.json.schema(ChatInput)))
        return SkillMetadata("A chat skill", "0.3", SkillKind.MESSAGE_STREAM, schema, None)

    def refuse_run(self) -> None:
        """Nothing to add."""

    async def stream(self, run: HostedRun) -> AsyncGenerator[StreamEvent, None]:
        try:
            chat = msgspec.json.decode(run.body, type=ChatInput)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"The input is not a chat: {error}") from None
        messages = [
            Message(role=message.role, content=message.content) for message in chat.messages
        ]
        system = Message(role="system", content=self.system_prompt)
        request = ChatRequest(self.model, [system, *messages], ChatParams())
        async with aclosing(chat_events(run, request)) as events:
            async for event in events:
                yield event


async def chat_events(run: HostedRun, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
    """A model's answer as one message that ends with the name of the finish reason.

    Reasoning, tool calls and usage are left out.
    """
    stream = run.csi.chat_stream(request, run.context, split_reasoning=True)
    async with aclosing(stream) as events:
        async for event in events:
            match event:
                case ChatBegin():
                    yield MessageBegin()
                case ChatAppend():
                    yield MessageAppend(event.content)
                case ChatEnd():
                    yield MessageEnd(Raw(f'"{_pascal_case(event.finish_reason)}"'.encode()))


def _pascal_case(snake_case: str) -> str:
    return "".join(word.capitalize() for word in snake_case.split("_"))
