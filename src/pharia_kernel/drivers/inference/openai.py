"""Driver for servers that speak OpenAI's chat completions protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator

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
from pharia_kernel.drivers.inference.credentials import Token
from pharia_kernel.drivers.inference.openai_answers import ChatStream, decode_chat
from pharia_kernel.drivers.inference.openai_errors import (
    Asked,
    Redactor,
    failed_attempt,
    parse_problem,
    to_error,
)
from pharia_kernel.drivers.inference.openai_requests import encode_chat
from pharia_kernel.drivers.inference.resilience import (
    AttemptFailed,
    Deadline,
    Resilience,
    RetryBudget,
    RetryPolicy,
)
from pharia_kernel.drivers.inference.sse import SseParser
from pharia_kernel.drivers.inference.upstream import Answer, Upstream
from pharia_kernel.errors import (
    BadUpstreamAnswer,
    NotConfigured,
    UpstreamTimeout,
    UpstreamUnavailable,
)

_CHAT_PATH = "chat/completions"


class OpenAiDriver:
    """Chat over ``{url}/chat/completions``; an ``InferenceDriver``.

    ``timeout`` is in seconds and bounds a call with all its attempts, its stream included; the
    caller's own deadline applies when it is earlier. At most ``max_concurrency`` requests are at
    the server at once, shared fairly among skills; further ones wait.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        timeout: float = 600.0,
        max_concurrency: int = 2048,
        retry_policy: RetryPolicy | None = None,
        retry_budget: RetryBudget | None = None,
    ) -> None:
        """``url`` is the base URL, such as ``https://api.openai.com/v1``; raises ``ValueError``."""
        self._upstream = Upstream(url, max_concurrency=max_concurrency)
        self._redactor = Redactor(self._upstream.host)
        self._token = token
        self._timeout = timeout
        self._resilience = Resilience(retry_policy, retry_budget)

    async def chat(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> ChatResponse:
        asked = self._asked(request.model, context)
        body = encode_chat(request, stream=False)
        deadline = Deadline.earliest(self._timeout, context.remaining())

        async def attempt() -> bytes:
            async with await self._post(
                _CHAT_PATH, body, context, asked, "application/json"
            ) as answer:
                return await answer.read()

        answer = await self._resilience.call(attempt, deadline)
        return decode_chat(answer, request, asked, split_reasoning=split_reasoning)

    async def chat_stream(
        self, request: ChatRequest, context: CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[ChatEvent, None]:
        asked = self._asked(request.model, context)
        body = encode_chat(request, stream=True)
        deadline = Deadline.earliest(self._timeout, context.remaining())

        async def attempt() -> Answer:
            return await self._post(_CHAT_PATH, body, context, asked, "text/event-stream")

        stream = ChatStream(request, asked, split_reasoning=split_reasoning)
        async with await self._resilience.call(attempt, deadline) as answer:
            await _check_streams(answer, asked, deadline)
            parser = SseParser()
            while not stream.ended:
                piece = await _next_piece(answer, stream, deadline)
                for sse in parser.feed(piece) if piece else parser.finish():
                    for event in stream.feed(sse):
                        yield event
                if not piece:
                    break
            for event in stream.finish():
                yield event
            await answer.drain()

    async def complete(self, request: CompletionRequest, context: CallContext) -> Completion:
        raise _only_chat()

    async def completion_stream(
        self, request: CompletionRequest, context: CallContext
    ) -> AsyncGenerator[CompletionEvent, None]:
        raise _only_chat()
        yield  # makes this a generator: the error comes with the first event, as for every stream

    async def explain(self, request: ExplanationRequest, context: CallContext) -> list[TextScore]:
        raise _only_chat()

    async def close(self) -> None:
        await self._upstream.close()

    def _asked(self, model: str, context: CallContext) -> Asked:
        return Asked(model, self._token.bearer(context), self._redactor)

    async def _post(
        self, path: str, body: bytes, context: CallContext, asked: Asked, accept: str
    ) -> Answer:
        headers = {
            **context.trace_headers,
            "Authorization": f"Bearer {asked.token}",
            "Content-Type": "application/json",
            "Accept": accept,
            # Compression would only add delay to small chunks.
            "Accept-Encoding": "identity",
        }

        def refusal(status: int, body: bytes, retry_after: float | None) -> AttemptFailed:
            return failed_attempt(status, body, retry_after, asked)

        tenant = context.skill or context.namespace or ""
        return await self._upstream.post(path, body, headers, tenant=tenant, refusal=refusal)


async def _next_piece(answer: Answer, stream: ChatStream, deadline: Deadline) -> bytes:
    """Bytes as they come, empty at the end. After the finish reason, failures cost usage only."""
    try:
        async with deadline.timer():
            return await answer.piece()
    except (TimeoutError, UpstreamTimeout, UpstreamUnavailable) as error:
        if stream.finished:
            return b""
        raise deadline.error() if isinstance(error, TimeoutError) else error from None


async def _check_streams(answer: Answer, asked: Asked, deadline: Deadline) -> None:
    """Some gateways answer an error, or the whole message, with status 200 and as plain JSON."""
    if answer.content_type == "text/event-stream":
        return
    try:
        async with deadline.timer():
            problem = parse_problem(await answer.read())
    except TimeoutError:
        raise deadline.error() from None
    if problem is not None:
        raise to_error(None, problem, asked)
    raise BadUpstreamAnswer(
        f"The inference backend answered a stream request with `{answer.content_type[:100]}`."
    )


def _only_chat() -> NotConfigured:
    return NotConfigured("The configured inference backend only supports chat.")
