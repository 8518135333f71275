"""``chat_stream`` and ``completion_stream``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from pharia_kernel.csi.types import (
    CompletionAppend,
    CompletionEnd,
    FinishReason,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    ToolCallChunk,
    ToolCallDelta,
    Usage,
    UsageEvent,
)
from pharia_kernel.errors import ModelNotFound, NotConfigured, Overloaded, UpstreamTimeout
from tests.shell.csi.support import CHAT, COMPLETION, HangingStream, RecordingCsi, emits
from tests.shell.support import (
    TRACE_ID,
    TRACEPARENT,
    MemorySkills,
    app_of,
    drop,
    listening,
    post_raw,
    running,
    within,
)

LOGPROBS = (
    '[{"sampled":{"token":[255,0],"logprob":null},'
    '"top":[{"token":[97],"logprob":-0.5},{"token":[],"logprob":-1.0}]}]'
)
STREAMS = [
    ("/csi/v1/chat_stream", CHAT),
    ("/csi/v2/chat_stream", CHAT),
    ("/csi/v1/completion_stream", COMPLETION),
    ("/csi/v2/completion_stream", COMPLETION),
]
EVERYTHING = [
    MessageBegin("assistant"),
    MessageAppend('a "b"\r\n\n\u2028ü', []),
    ToolCallDelta([ToolCallChunk(0, "1", "add", None), ToolCallChunk(0, arguments='{"a":')]),
    MessageEnd(FinishReason.TOOL_CALLS),
    UsageEvent(Usage(1, 2)),
]


async def test_chat_stream_v1(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    response = await client.post(
        "/csi/v1/chat_stream", json=CHAT, headers={"Accept-Encoding": "gzip"}
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert "content-encoding" not in response.headers
    assert "preference-applied" not in response.headers
    assert response.content.decode() == (
        'event: message_begin\ndata: {"role":"assistant"}\n\n'
        f'event: message_append\ndata: {{"content":"Pa","logprobs":{LOGPROBS}}}\n\n'
        'event: message_append\ndata: {"content":"ris.","logprobs":[]}\n\n'
        'event: message_end\ndata: {"finish_reason":"stop"}\n\n'
        'event: usage\ndata: {"usage":{"prompt":12,"completion":3}}\n\n'
    )
    assert csi.split_reasoning == [False]


async def test_chat_stream_v2(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    response = await client.post("/csi/v2/chat_stream", json=CHAT)
    assert response.content.decode() == (
        'event: message_begin\ndata: {"role":"assistant"}\n\n'
        'event: reasoning\ndata: {"content":"hm"}\n\n'
        'event: message_append\ndata: {"content":"Pa"}\n\n'
        'event: message_append\ndata: {"content":"ris."}\n\n'
        'event: message_end\ndata: {"finish_reason":"stop"}\n\n'
        'event: usage\ndata: {"usage":{"prompt":12,"completion":3}}\n\n'
    )
    assert csi.split_reasoning == [True]


@pytest.mark.parametrize(("version", "logprobs"), [("v1", ',"logprobs":[]'), ("v2", "")])
async def test_tool_calls_and_text_that_needs_escapes(
    client: httpx.AsyncClient, csi: RecordingCsi, version: str, logprobs: str
) -> None:
    csi.stream = lambda: emits(*EVERYTHING)
    response = await client.post(f"/csi/{version}/chat_stream", json=CHAT)
    assert response.content.decode() == (
        'event: message_begin\ndata: {"role":"assistant"}\n\n'
        'event: message_append\ndata: {"content":"a \\"b\\"\\r\\n\\n\u2028ü"' + logprobs + "}\n\n"
        'event: tool_call\ndata: {"tool_calls":['
        '{"index":0,"id":"1","name":"add","arguments":null},'
        '{"index":0,"id":null,"name":null,"arguments":"{\\"a\\":"}]}\n\n'
        'event: message_end\ndata: {"finish_reason":"tool_calls"}\n\n'
        'event: usage\ndata: {"usage":{"prompt":1,"completion":2}}\n\n'
    )


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_completion_stream(
    client: httpx.AsyncClient, csi: RecordingCsi, version: str
) -> None:
    response = await client.post(f"/csi/{version}/completion_stream", json=COMPLETION)
    assert response.content.decode() == (
        f'event: append\ndata: {{"text":" ke","logprobs":{LOGPROBS}}}\n\n'
        'event: append\ndata: {"text":"eps","logprobs":[]}\n\n'
        'event: end\ndata: {"finish_reason":"length"}\n\n'
        'event: usage\ndata: {"usage":{"prompt":12,"completion":3}}\n\n'
    )
    assert csi.calls[0][1].params.echo is True


@pytest.mark.parametrize(
    ("path", "body", "events"),
    [
        ("chat_stream", CHAT, [MessageBegin("assistant"), MessageEnd(FinishReason.STOP)]),
        ("completion_stream", COMPLETION, [CompletionEnd(FinishReason.STOP)]),
    ],
)
async def test_clients_of_v1_need_usage(
    client: httpx.AsyncClient, csi: RecordingCsi, path: str, body: Any, events: list[Any]
) -> None:
    csi.stream = lambda: emits(*events)
    first = (await client.post(f"/csi/v1/{path}", json=body)).text
    second = (await client.post(f"/csi/v2/{path}", json=body)).text
    assert first == second + 'event: usage\ndata: {"usage":{"prompt":0,"completion":0}}\n\n'


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelNotFound("There is no model `m`."), 404),
        (Overloaded("full", retry_after=3), 429),
        (UpstreamTimeout("late"), 504),
    ],
)
@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_error_before_the_first_event_is_a_status(
    client: httpx.AsyncClient,
    csi: RecordingCsi,
    path: str,
    body: Any,
    error: Any,
    status: int,
) -> None:
    csi.stream = lambda: emits(then=error)
    response = await client.post(path, json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == error.problem()


async def test_error_of_the_call_itself_is_a_status() -> None:
    class WithoutDriver(RecordingCsi):
        def chat_stream(
            self, request: Any, context: Any, *, split_reasoning: bool
        ) -> AsyncGenerator[Any, None]:
            raise NotConfigured("no driver")

    async with running(app_of(MemorySkills(), csi=WithoutDriver())) as client:
        response = await client.post("/csi/v1/chat_stream", json=CHAT)
    assert response.status_code == 503


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/csi/v1/chat_stream", MessageBegin("assistant")),
        ("/csi/v2/chat_stream", MessageBegin("assistant")),
        ("/csi/v1/completion_stream", CompletionAppend("a", [])),
        ("/csi/v2/completion_stream", CompletionAppend("a", [])),
    ],
)
async def test_error_in_the_stream_is_its_last_event(
    client: httpx.AsyncClient, csi: RecordingCsi, path: str, event: Any
) -> None:
    error = UpstreamTimeout("The backend fell silent.")
    csi.stream = lambda: emits(event, then=error)
    body = CHAT if "chat" in path else COMPLETION
    response = await client.post(path, json=body, headers={"traceparent": TRACEPARENT})
    assert response.status_code == 200
    _, last, rest = response.text.split("\n\n")
    assert rest == ""
    name, _, data = last.partition("\n")
    assert name == "event: error"
    assert data.startswith('data: {"message":"The backend fell silent.",')
    assert json.loads(data.removeprefix("data: ")) == {
        "message": "The backend fell silent.",
        **error.problem(),
        "trace_id": TRACE_ID,
    }


async def test_reasoning_that_v1_cannot_carry_is_a_fault_of_the_kernel(
    client: httpx.AsyncClient, csi: RecordingCsi, caplog: pytest.LogCaptureFixture
) -> None:
    csi.stream = lambda: emits(MessageBegin("assistant"), Reasoning("hm"))
    response = await client.post("/csi/v1/chat_stream", json=CHAT)
    assert '"code":"internal_error"' in response.text
    assert "hm" not in response.text
    assert "without having been asked for" in caplog.text


@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_stream_without_events(
    client: httpx.AsyncClient, csi: RecordingCsi, path: str, body: Any
) -> None:
    csi.stream = emits
    response = await client.post(path, json=body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert ("event: usage" in response.text) == ("/v1/" in path)


async def test_events_arrive_at_once(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    """The backend sends an event only when the client has seen the one before."""
    seen: asyncio.Queue[None] = asyncio.Queue()

    async def stream() -> AsyncGenerator[Any, None]:
        yield MessageBegin("assistant")
        await seen.get()
        yield MessageAppend("a", [])
        await seen.get()
        yield MessageEnd(FinishReason.STOP)

    csi.stream = stream
    async with client.stream("POST", "/csi/v2/chat_stream", json=CHAT) as response:
        events = response.aiter_text()
        for expected in ("message_begin", "message_append", "message_end"):
            assert f"event: {expected}\n" in await within(anext(events))
            seen.put_nowait(None)


@pytest.mark.parametrize("events", [[], [MessageBegin("assistant")]])
async def test_disconnect_closes_the_stream(csi: RecordingCsi, events: list[Any]) -> None:
    stream = HangingStream(*events)
    csi.stream = stream
    async with listening(app_of(MemorySkills(), csi=csi)) as port:
        before = asyncio.all_tasks()
        body = json.dumps(CHAT).encode()
        reader, writer = await post_raw(port, "/csi/v1/chat_stream", body)
        await within(stream.hangs.wait())
        if events:
            await within(reader.readuntil(b"message_begin"))
        await drop(writer)
        assert await within(stream.ended.get()) is asyncio.CancelledError
        while rest := asyncio.all_tasks() - before:
            await within(asyncio.wait(rest))


@pytest.mark.parametrize(
    ("events", "told"),
    [([], b"HTTP/1.1 503"), ([MessageBegin("assistant")], b"event: error\n")],
)
async def test_stream_ended_by_the_drain_says_so(
    csi: RecordingCsi, events: list[Any], told: bytes
) -> None:
    stream = HangingStream(*events)
    csi.stream = stream
    async with listening(app_of(MemorySkills(), csi=csi), drain_timeout=0.2) as port:
        reader, _ = await post_raw(port, "/csi/v1/chat_stream", json.dumps(CHAT).encode())
        await within(stream.hangs.wait())
    answer = await within(reader.read())
    assert told in answer
    assert b'"code":"shutting_down"' in answer
    assert await within(stream.ended.get()) is asyncio.CancelledError


# --- keep-alive -----------------------------------------------------------------------------------

KEEP_ALIVE = {"Prefer": "keep-alive=1"}
COMMENT = ": keep-alive\n\n"


async def test_comments_break_the_silence(csi: RecordingCsi) -> None:
    goes_on = asyncio.Event()

    async def stream() -> AsyncGenerator[Any, None]:
        await goes_on.wait()
        yield MessageBegin("assistant")

    csi.stream = stream
    async with (
        running(app_of(MemorySkills(), csi=csi)) as client,
        client.stream("POST", "/csi/v2/chat_stream", json=CHAT, headers=KEEP_ALIVE) as response,
    ):
        # The status is out although there was no event.
        assert response.status_code == 200
        assert response.headers["preference-applied"] == "keep-alive=1"
        events = response.aiter_text()
        assert await within(anext(events)) == COMMENT
        assert await within(anext(events)) == COMMENT
        goes_on.set()
        rest = [text async for text in events]
    assert "".join(rest).replace(COMMENT, "") == (
        'event: message_begin\ndata: {"role":"assistant"}\n\n'
    )


async def test_error_before_the_first_silence_is_still_a_status(
    client: httpx.AsyncClient, csi: RecordingCsi
) -> None:
    csi.stream = lambda: emits(then=ModelNotFound("There is no model `m`."))
    response = await client.post("/csi/v2/chat_stream", json=CHAT, headers=KEEP_ALIVE)
    assert response.status_code == 404


async def test_error_after_a_comment_is_an_event(csi: RecordingCsi) -> None:
    fails = asyncio.Event()

    async def stream() -> AsyncGenerator[Any, None]:
        await fails.wait()
        raise ModelNotFound("There is no model `m`.")
        yield

    csi.stream = stream
    async with (
        running(app_of(MemorySkills(), csi=csi)) as client,
        client.stream("POST", "/csi/v2/chat_stream", json=CHAT, headers=KEEP_ALIVE) as response,
    ):
        events = response.aiter_text()
        assert await within(anext(events)) == COMMENT
        fails.set()
        rest = "".join([text async for text in events])
    assert '"code":"model_not_found"' in rest


async def test_disconnect_closes_a_stream_that_is_kept_alive(csi: RecordingCsi) -> None:
    stream = HangingStream()
    csi.stream = stream
    async with listening(app_of(MemorySkills(), csi=csi)) as port:
        before = asyncio.all_tasks()
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{port}/csi/v2/chat_stream"
            async with client.stream("POST", url, json=CHAT, headers=KEEP_ALIVE) as response:
                assert await within(anext(response.aiter_text())) == COMMENT
        assert await within(stream.ended.get()) is asyncio.CancelledError
        while rest := asyncio.all_tasks() - before:
            await within(asyncio.wait(rest))


@pytest.mark.parametrize("path", ["/csi/v1/chat_stream", "/csi/v1/completion_stream"])
async def test_v1_never_sends_comments(client: httpx.AsyncClient, path: str) -> None:
    body = CHAT if "chat" in path else COMPLETION
    response = await client.post(path, json=body, headers=KEEP_ALIVE)
    assert "preference-applied" not in response.headers
