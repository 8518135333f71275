"""Driver for servers that speak OpenAI's protocol: chat completions, and completions where they are
offered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

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
from pharia_kernel.drivers.inference.backend import Backend
from pharia_kernel.drivers.inference.credentials import Token
from pharia_kernel.drivers.inference.openai_answers import ChatStream, decode_chat
from pharia_kernel.drivers.inference.openai_completions import (
    CompletionStream,
    decode_completion,
    encode_completion,
)
from pharia_kernel.drivers.inference.openai_requests import encode_chat
from pharia_kernel.errors import NotConfigured, UpstreamRejected
from pharia_kernel.resilience import RetryBudget, RetryPolicy

_CHAT_PATH = "chat/completions"
_COMPLETION_PATH = "completions"
_NO_SUCH_ROUTE = (404, 405, 501)


class OpenAiDriver:
    """An ``InferenceDriver`` over ``{url}/chat/completions`` and ``{url}/completions``.

    The arguments are those of ``Backend``.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        provider: str = "openai",
        timeout: float = 600.0,
        max_concurrency: int = 2048,
        retry_policy: RetryPolicy | None = None,
        retry_budget: RetryBudget | None = None,
    ) -> None:
        """``url`` is the base URL, such as ``https://api.openai.com/v1``; raises ``ValueError``."""
        self._backend = Backend(
            url,
            token,
            provider=provider,
            timeout=timeout,
            max_concurrency=max_concurrency,
            retry_policy=retry_policy,
            retry_budget=retry_budget,
        )

    async def chat(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> ChatResponse:
        asked = self._backend.asked(request.model, context)
        body = encode_chat(request, stream=False)
        answer = await self._backend.fetch(_CHAT_PATH, body, context, asked)
        return decode_chat(answer, request, asked, split_reasoning=split_reasoning)

    async def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        asked = self._backend.asked(request.model, context)
        body = encode_chat(request, stream=True)
        reader = ChatStream(request, asked, split_reasoning=split_reasoning)
        stream = self._backend.stream(_CHAT_PATH, body, context, asked, reader)
        async with aclosing(stream) as events:
            async for event in events:
                yield event

    async def complete(self, request: CompletionRequest, context: CallContext) -> Completion:
        asked = self._backend.asked(request.model, context)
        body = encode_completion(request, stream=False)
        try:
            answer = await self._backend.fetch(_COMPLETION_PATH, body, context, asked)
        except UpstreamRejected as error:
            raise _unless_missing(error) from error
        return decode_completion(answer, request, asked)

    async def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        asked = self._backend.asked(request.model, context)
        body = encode_completion(request, stream=True)
        reader = CompletionStream(request, asked)
        stream = self._backend.stream(_COMPLETION_PATH, body, context, asked, reader)
        try:
            async with aclosing(stream) as events:
                async for event in events:
                    yield event
        except UpstreamRejected as error:
            raise _unless_missing(error) from error

    async def explain(self, request: ExplanationRequest, context: CallContext) -> list[TextScore]:
        raise NotConfigured("The configured inference backend offers no explanations.")

    async def close(self) -> None:
        await self._backend.close()


def _unless_missing(error: UpstreamRejected) -> UpstreamRejected | NotConfigured:
    """Not every server that chats completes as well."""
    if error.extra.get("upstream_status") in _NO_SUCH_ROUTE:
        return NotConfigured("The configured inference backend only supports chat.")
    return error
