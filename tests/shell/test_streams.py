"""``/message-stream``."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator

import httpx
import pytest
from msgspec import Raw

from pharia_kernel.errors import KernelError, SkillFailed
from pharia_kernel.skills.types import (
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    StreamEvent,
    ToolBegin,
    ToolEnd,
    ToolError,
)
from tests.shell.support import (
    JSON,
    TRACE_ID,
    TRACEPARENT,
    MemorySkills,
    app_of,
    drop,
    listening,
    post_raw,
    within,
)

STREAM = "/v1/skills/dev/chat/message-stream"


def emits(*events: StreamEvent, then: Exception | None = None) -> object:
    async def stream(body: bytes) -> AsyncGenerator[StreamEvent, None]:
        for event in events:
            yield event
        if then is not None:
            raise then

    return stream


async def test_every_event_on_the_wire(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.streams["chat"] = emits(  # type: ignore[assignment]
        ToolBegin("add"),
        ToolEnd("add"),
        ToolError("subtract", "Out of cheese."),
        MessageBegin(),
        Reasoning("hm"),
        MessageAppend('a "b"\n\u2028ü'),
        MessageEnd(Raw(b'{\n  "finish" : "stop"\r\n}')),
        MessageBegin(),
        MessageEnd(),
    )
    response = await client.post(STREAM, json=1, headers={"Accept-Encoding": "gzip"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    assert response.content.decode() == (
        'event: tool\ndata: {"type":"begin","name":"add"}\n\n'
        'event: tool\ndata: {"type":"end","name":"add"}\n\n'
        'event: tool\ndata: {"type":"error","name":"subtract","message":"Out of cheese."}\n\n'
        'event: message\ndata: {"type":"begin"}\n\n'
        'event: reasoning\ndata: {"type":"reasoning","text":"hm"}\n\n'
        'event: message\ndata: {"type":"append","text":"a \\"b\\"\\n\u2028ü"}\n\n'
        'event: message\ndata: {"type":"end","payload":{"finish":"stop"}}\n\n'
        'event: message\ndata: {"type":"begin"}\n\n'
        'event: message\ndata: {"type":"end","payload":null}\n\n'
    )


async def test_error_before_the_stream_is_a_status(client: httpx.AsyncClient) -> None:
    response = await client.post(STREAM, json=1)
    assert response.status_code == 404
    assert response.json()["code"] == "skill_not_found"


async def test_request_rules_are_those_of_run(client: httpx.AsyncClient) -> None:
    assert (await client.post(STREAM, content=b"{", headers=JSON)).status_code == 400
    assert (await client.post(STREAM, content=b"{}")).status_code == 415
    assert (await client.get(STREAM)).headers["allow"] == "POST"


async def test_error_in_the_stream_is_its_last_event(
    client: httpx.AsyncClient, skills: MemorySkills
) -> None:
    error = SkillFailed("no such city", skill="dev/chat")
    skills.streams["chat"] = emits(MessageBegin(), then=error)  # type: ignore[assignment]
    response = await client.post(STREAM, json=1, headers={"traceparent": TRACEPARENT})
    assert response.status_code == 200
    begin, last, rest = response.text.split("\n\n")
    assert begin == 'event: message\ndata: {"type":"begin"}'
    assert rest == ""
    name, _, data = last.partition("\n")
    assert name == "event: error"
    assert data.startswith('data: {"message":"no such city",')
    assert json.loads(data.removeprefix("data: ")) == {
        "message": "no such city",
        **error.problem(),
        "trace_id": TRACE_ID,
    }


async def test_unexpected_error_in_the_stream_is_logged_and_not_shown(
    client: httpx.AsyncClient, skills: MemorySkills, caplog: pytest.LogCaptureFixture
) -> None:
    skills.streams["chat"] = emits(then=ZeroDivisionError("hunter2"))  # type: ignore[assignment]
    response = await client.post(STREAM, json=1)
    assert response.text.startswith("event: error\n")
    assert KernelError.code in response.text
    assert "hunter2" not in response.text
    assert [record for record in caplog.records if record.levelno == logging.ERROR]


async def test_headers_and_events_arrive_at_once(
    client: httpx.AsyncClient, skills: MemorySkills
) -> None:
    """Each step of the skill waits until the client has seen the one before."""
    seen: asyncio.Queue[None] = asyncio.Queue()

    async def stream(body: bytes) -> AsyncGenerator[StreamEvent, None]:
        await seen.get()
        yield MessageBegin()
        await seen.get()
        yield MessageAppend("a")
        await seen.get()
        yield MessageEnd()

    skills.streams["chat"] = stream
    async with client.stream("POST", STREAM, json=1) as response:
        assert response.status_code == 200
        events = response.aiter_text()
        for expected in ("begin", "append", "end"):
            seen.put_nowait(None)
            assert f'"type":"{expected}"' in await within(anext(events))


async def test_disconnect_closes_the_stream_that_waits(skills: MemorySkills) -> None:
    ended: asyncio.Queue[type[BaseException]] = asyncio.Queue()

    async def stream(body: bytes) -> AsyncGenerator[StreamEvent, None]:
        try:
            yield MessageBegin()
            await asyncio.Event().wait()
        except BaseException as error:
            ended.put_nowait(type(error))
            raise

    skills.streams["chat"] = stream
    async with listening(app_of(skills)) as port:
        before = asyncio.all_tasks()
        reader, writer = await post_raw(port, STREAM)
        await within(reader.readuntil(b'{"type":"begin"}'))
        await drop(writer)
        assert await within(ended.get()) is asyncio.CancelledError
        while rest := asyncio.all_tasks() - before:
            await within(asyncio.wait(rest))


async def test_client_that_does_not_read_stops_the_skill_and_may_leave(
    skills: MemorySkills,
) -> None:
    """A skill is not asked for events that nobody takes; when the client leaves, it is closed."""
    produced = 0
    ended: asyncio.Queue[type[BaseException]] = asyncio.Queue()
    text = "x" * 100_000

    async def stream(body: bytes) -> AsyncGenerator[StreamEvent, None]:
        nonlocal produced
        try:
            while True:
                produced += 1
                yield MessageAppend(text)
                await asyncio.sleep(0)
        except BaseException as error:
            ended.put_nowait(type(error))
            raise

    skills.streams["chat"] = stream
    async with listening(app_of(skills)) as port:
        _, writer = await post_raw(port, STREAM)
        await within(_until_unchanged(lambda: produced))
        assert produced < 1000  # 100 MB: more than all buffers between the two
        writer.transport.abort()
        assert await within(ended.get()) in (GeneratorExit, asyncio.CancelledError)


async def _until_unchanged(value: object, rounds: int = 2000) -> None:
    assert callable(value)
    last, unchanged = None, 0
    while unchanged < rounds:
        await asyncio.sleep(0)
        now = value()
        unchanged = unchanged + 1 if now == last and now else 0
        last = now


async def test_stream_ended_by_the_drain_says_so(skills: MemorySkills) -> None:
    async def stream(body: bytes) -> AsyncGenerator[StreamEvent, None]:
        yield MessageBegin()
        await asyncio.Event().wait()

    skills.streams["chat"] = stream
    async with listening(app_of(skills), drain_timeout=0.2) as port:
        reader, _ = await post_raw(port, STREAM)
        await within(reader.readuntil(b'{"type":"begin"}'))
    rest = await within(reader.read())
    assert b"event: error\n" in rest
    assert b'"code":"shutting_down"' in rest
    assert rest.endswith(b"0\r\n\r\n")
