"""What all HTTP backends have in common: whole answers and streams, under the one policy."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, TypeVar

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.inference.credentials import Token
from pharia_kernel.drivers.inference.openai_errors import (
    Asked,
    Redactor,
    failed_attempt,
    parse_problem,
    to_error,
)
from pharia_kernel.drivers.inference.sse import ServerSentEvent, SseParser
from pharia_kernel.drivers.inference.upstream import Answer, Upstream
from pharia_kernel.errors import BadUpstreamAnswer, UpstreamTimeout, UpstreamUnavailable
from pharia_kernel.resilience import (
    AttemptFailed,
    Deadline,
    Resilience,
    RetryBudget,
    RetryPolicy,
)
from pharia_kernel.telemetry import generation

Event = TypeVar("Event")


class StreamReader(Protocol[Event]):
    """Turns a backend's server-sent events into those of the CSI."""

    @property
    def finished(self) -> bool:
        """The finish reason has come; at most usage may follow."""
        ...

    @property
    def ended(self) -> bool:
        """Nothing more is to be expected."""
        ...

    def feed(self, event: ServerSentEvent) -> list[Event]: ...

    def finish(self) -> list[Event]:
        """What is left when the stream is over; raises ``BadUpstreamAnswer`` if that is early."""
        ...


class Backend:
    """One server: its connections, its credentials, and how patient we are with it.

    ``timeout`` is in seconds and bounds a call with all its attempts, its stream included; the
    caller's own deadline applies when it is earlier. At most ``max_concurrency`` requests are at
    the server at once, shared fairly among skills; further ones wait.
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
        """``url`` is the base URL, such as ``https://api.openai.com/v1``; raises ``ValueError``.
        ``provider`` is what traces call the kind of server."""
        self._provider = provider
        self._upstream = Upstream(url, max_concurrency=max_concurrency)
        self._redactor = Redactor(self._upstream.host)
        self._token = token
        self._timeout = timeout
        self._resilience = Resilience(retry_policy, retry_budget)

    def asked(self, model: str, context: CallContext) -> Asked:
        """Raises ``TokenRequired`` before anything is sent, if the caller's token is needed."""
        return Asked(model, self._token.bearer(context), self._redactor)

    async def fetch(self, path: str, body: bytes, context: CallContext, asked: Asked) -> bytes:
        """Body of the answer to a request that is not streamed."""
        deadline = Deadline.earliest(self._timeout, context.remaining())
        generation.asked(self._provider, self._upstream.host, self._upstream.port)

        async def attempt() -> bytes:
            async with await self._post(path, body, context, asked, "application/json") as answer:
                return await answer.read()

        body = await self._resilience.call(attempt, deadline)
        generation.answered_with(body)
        return body

    async def stream(
        self,
        path: str,
        body: bytes,
        context: CallContext,
        asked: Asked,
        reader: StreamReader[Event],
    ) -> AsyncGenerator[Event, None]:
        """Events of a streamed answer. Nothing is tried again once it has begun."""
        deadline = Deadline.earliest(self._timeout, context.remaining())
        generation.asked(self._provider, self._upstream.host, self._upstream.port)

        async def attempt() -> Answer:
            return await self._post(path, body, context, asked, "text/event-stream")

        async with await self._resilience.call(attempt, deadline) as answer:
            await _check_streams(answer, asked, deadline)
            parser = SseParser()
            first = True
            while not reader.ended:
                piece = await _next_piece(answer, reader, deadline)
                for sse in parser.feed(piece) if piece else parser.finish():
                    if first:
                        generation.answered_with(sse.data)
                        first = False
                    for event in reader.feed(sse):
                        yield event
                if not piece:
                    break
            for event in reader.finish():
                yield event
            await answer.drain()

    async def close(self) -> None:
        await self._upstream.close()

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


async def _next_piece(answer: Answer, reader: StreamReader[Event], deadline: Deadline) -> bytes:
    """Bytes as they come, empty at the end. After the finish reason, failures cost usage only."""
    try:
        async with deadline.timer():
            return await answer.piece()
    except (TimeoutError, UpstreamTimeout, UpstreamUnavailable) as error:
        if reader.finished:
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
