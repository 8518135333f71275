"""An OpenAI-compatible chat server that answers as its script says, to inject faults.

Without a script it answers properly, so it also serves as a fast backend for benchmarks:
``python -m tests.support.faulty_llm --port P --latency 2.0 --tokens N --delay D``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Behaviour = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
"""Answers a request, whose JSON body is the second argument."""

Json = dict[str, Any]


@dataclass
class Received:
    body: Json
    headers: dict[str, str]
    """Names in lower case."""


@dataclass
class FaultyLlm:
    """Takes the next behaviour of the script for each request, then the default one."""

    default: Behaviour
    script: deque[Behaviour] = field(default_factory=deque)
    received: deque[Received] = field(default_factory=lambda: deque(maxlen=1000))
    """The last requests."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """A request has come."""
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    """A client has gone away before its answer was complete."""
    connections: set[Any] = field(default_factory=set)
    """Peer addresses of the clients, one per connection."""
    active: int = 0
    most_active: int = 0
    url: str = ""

    def will(self, *behaviours: Behaviour) -> None:
        self.script.extend(behaviours)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            self.disconnected.set()
            raise
        except ConnectionResetError:
            self.disconnected.set()
            return web.Response()
        finally:
            self.active -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(body, headers))
        assert request.transport
        self.connections.add(request.transport.get_extra_info("peername"))
        self.arrived.set()
        behaviour = self.script.popleft() if self.script else self.default
        return await behaviour(request, body)


@contextlib.asynccontextmanager
async def running_faulty_llm(default: Behaviour | None = None) -> AsyncGenerator[FaultyLlm, None]:
    """The server on a free loopback port of this event loop."""
    llm = FaultyLlm(default or proper())
    runner = web.AppRunner(
        _app(llm), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        llm.url = f"http://{host}:{port}/v1"
        yield llm
    finally:
        await runner.cleanup()


def _app(llm: FaultyLlm) -> web.Application:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    for path in ("/v1/chat/completions", "/v1/completions"):
        app.router.add_post(path, llm.handle)
    return app


# --- chunks -----------------------------------------------------------------------------------


def chunk(
    delta: Json | None = None,
    *,
    finish: str | None = None,
    usage: tuple[int, int] | None = None,
    logprobs: Json | None = None,
) -> Json:
    """One chunk of a stream; without a choice if only usage is given."""
    value: Json = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": []}
    if delta is not None or finish is not None:
        choice: Json = {"index": 0, "delta": delta or {}, "finish_reason": finish}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        value["choices"] = [choice]
    if usage is not None:
        value["usage"] = usage_object(*usage)
    return value


def usage_object(prompt: int, completion: int) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def message(content: str | None, *, finish: str = "stop", **fields: Any) -> Json:
    """An answer that is not streamed; ``fields`` are added to the message."""
    return {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **fields},
                "finish_reason": finish,
            }
        ],
        "usage": usage_object(3, 5),
    }


def sse(*values: Json | str) -> bytes:
    """Chunks as the bytes of a stream; strings go in as they are."""
    return b"".join(
        f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
        for value in values
    )


# --- behaviours -------------------------------------------------------------------------------


def proper(*, latency: float = 0.0, tokens: int = 5, delay: float = 0.0) -> Behaviour:
    """A correct answer: the first token after ``latency`` seconds, each further ``delay`` later."""
    chunks = _proper_chunks(tokens)
    whole = message(" ".join(["token"] * tokens)) | {"usage": usage_object(1, tokens)}

    async def behave(request: web.Request, body: Json) -> web.StreamResponse:
        if latency:
            await asyncio.sleep(latency)
        if body.get("stream"):
            return await _stream(request, chunks, delay)
        if delay:
            await asyncio.sleep(delay * tokens)
        return web.json_response(whole)

    return behave


def _proper_chunks(tokens: int) -> list[bytes]:
    pieces = [{"content": "token" if place == 0 else " token"} for place in range(tokens)]
    first = chunk({"role": "assistant", "content": ""})
    return [
        sse(first, chunk(pieces[0])) if pieces else sse(first),
        *(sse(chunk(piece)) for piece in pieces[1:]),
        sse(chunk(finish="stop"), chunk(usage=(1, tokens)), "[DONE]"),
    ]


def answer(
    status: int = 200, body: Json | str | None = None, headers: dict[str, str] | None = None
) -> Behaviour:
    """An answer that is not streamed; a text body is sent as plain text."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        if isinstance(body, str):
            return web.Response(status=status, text=body, headers=headers)
        return web.json_response(body or {}, status=status, headers=headers)

    return behave


def error(status: int, *, headers: dict[str, str] | None = None, **fields: Any) -> Behaviour:
    """An error in OpenAI's format, with ``message``, ``type`` and ``code`` from the fields."""
    return answer(status, {"error": {"message": "scripted", **fields}}, headers)


def stream(*pieces: bytes) -> Behaviour:
    """A stream of exactly these writes, which then ends properly."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        return await _stream(request, pieces)

    return behave


def stream_then_reset(*pieces: bytes) -> Behaviour:
    """A stream whose connection breaks after these writes."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        response = await _open_stream(request)
        for piece in pieces:
            await response.write(piece)
        return _abort(request, response)

    return behave


def stream_then_hang(*pieces: bytes) -> Behaviour:
    """A stream that says no more after these writes."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        response = await _open_stream(request)
        for piece in pieces:
            await response.write(piece)
        await asyncio.Event().wait()
        return response

    return behave


def endless_stream(piece: bytes) -> Behaviour:
    """The same write again and again, until the client goes."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        response = await _open_stream(request)
        while True:
            await response.write(piece)
            await asyncio.sleep(0)

    return behave


def hang() -> Behaviour:
    """No answer at all."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    return behave


def reset() -> Behaviour:
    """The connection breaks instead of an answer."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        return _abort(request, web.Response())

    return behave


def raw(data: bytes) -> Behaviour:
    """These bytes on the connection, which is then closed."""

    async def behave(request: web.Request, _: Json) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(data)
        transport.close()
        return web.Response()

    return behave


def together(count: int, then: Behaviour) -> Behaviour:
    """Answers only when so many requests are there at once."""
    barrier = asyncio.Barrier(count)

    async def behave(request: web.Request, body: Json) -> web.StreamResponse:
        await barrier.wait()
        return await then(request, body)

    return behave


async def _open_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def _stream(
    request: web.Request, pieces: Iterable[bytes], delay: float = 0.0
) -> web.StreamResponse:
    response = await _open_stream(request)
    for place, piece in enumerate(pieces):
        if place:
            await asyncio.sleep(delay)
        await response.write(piece)
    await response.write_eof()
    return response


def _abort(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    transport = request.transport
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()
    return response


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until the first token")
    parser.add_argument("--tokens", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds between tokens")
    options = parser.parse_args()
    llm = FaultyLlm(proper(latency=options.latency, tokens=options.tokens, delay=options.delay))
    app = _app(llm)
    web.run_app(
        app,
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        handler_cancellation=True,
        backlog=4096,
        print=lambda text: print(text, flush=True),
    )


if __name__ == "__main__":
    main()
