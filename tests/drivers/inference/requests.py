"""Requests that tests of inference drivers share."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from pharia_kernel.csi.types import ChatParams, ChatRequest, Function, Message

ADD = Function(
    name="add",
    description="Adds one or two.",
    parameters=Raw(b'{"type":"object","properties":{"n":{"enum":[1,2]}},"required":["n"]}'),
)


def chat_request(*messages: Message, model: str = "tiny", **params: Any) -> ChatRequest:
    return ChatRequest(
        model=model,
        messages=list(messages) or [Message(role="user", content="Say something.")],
        params=ChatParams(**params),
    )
