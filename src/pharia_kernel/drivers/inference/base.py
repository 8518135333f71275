"""The interface of inference drivers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from pharia_kernel.csi.types import (
    CallContext,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    Completion,
    CompletionEvent,
    CompletionRequest,
    ExplanationRequest,
    TextScore,
)


class InferenceDriver(Protocol):
    """Every method raises a ``CsiError``; cancelling the call or closing the stream ends the
    upstream request.

    ``split_reasoning`` selects the path of the newer callers: reasoning is told apart from content.
    Without it, content arrives as the model wrote it (``<think>`` tags included), and an answer
    without content or with a tool call, when no tool was offered, is an error.
    """

    async def chat(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> ChatResponse: ...

    def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        """Exactly one begin, then reasoning, appends and tool call chunks, one end, and usage if
        known."""
        ...

    async def complete(self, request: CompletionRequest, context: CallContext) -> Completion: ...

    def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]: ...

    async def explain(
        self, request: ExplanationRequest, context: CallContext
    ) -> list[TextScore]: ...

    async def close(self) -> None:
        """Close the connection pool; calls in flight fail."""
        ...
