from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time

import httpx
import pytest

from pharia_kernel.shell import AddressUnavailable, serve
from tests.shell.support import (
    DEADLINE,
    Hanging,
    MemorySkills,
    app_of,
    listening,
    post_raw,
    within,
)


class Served:
    """The server as a task, without anything that would stop it by itself."""

    def __init__(self, skills: MemorySkills, drain_timeout: float = DEADLINE) -> None:
        self.bound: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.task = asyncio.create_task(
            serve(
                app_of(skills),
                "127.0.0.1",
                0,
                drain_timeout=drain_timeout,
                on_bound=lambda host, port: self.bound.put_nowait((host, port)),
            )
        )


async def test_callback_gets_the_bound_address(skills: MemorySkills) -> None:
    served = Served(skills)
    host, port = await within(served.bound.get())
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://{host}:{port}/health")).text == "ok"
    os.kill(os.getpid(), signal.SIGTERM)
    await within(served.task)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\nX: ",
        b"POST /v1/skills/a/b/run HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\n2\r\n{}\r\n0\r\nX: ",
    ],
    ids=["head", "trailer"],
)
async def test_heads_without_end_are_cut(skills: MemorySkills, endless: bytes) -> None:
    async with listening(app_of(skills)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(endless)

        async def send_on() -> None:
            while True:
                writer.write(b"a" * 65536)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await within(send_on())
        with contextlib.suppress(ConnectionError):
            assert b"200" not in await within(reader.read(64))
        writer.close()


async def test_address_in_use_is_said(skills: MemorySkills) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailable) as caught:
            await serve(app_of(skills), "127.0.0.1", port, drain_timeout=1)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "in use" in str(caught.value)


async def test_unusable_address_is_said(skills: MemorySkills) -> None:
    with pytest.raises(AddressUnavailable, match=r"203\.0\.113\.1:0"):
        await serve(app_of(skills), "203.0.113.1", 0, drain_timeout=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_lets_requests_finish(skills: MemorySkills, number: signal.Signals) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def run(body: bytes) -> bytes:
        started.set()
        await finish.wait()
        return b'"finished"'

    skills.runs["slow"] = run
    served = Served(skills)
    _, port = await within(served.bound.get())
    reader, _ = await post_raw(port, "/v1/skills/dev/slow/run")
    await within(started.wait())
    os.kill(os.getpid(), number)
    await within(_refused(port))
    assert not served.task.done()
    finish.set()
    answer = await within(reader.read())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'"finished"')
    await within(served.task)


async def _refused(port: int) -> None:
    """Return when nobody listens any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0)


async def test_drain_deadline_cancels_and_tells(skills: MemorySkills) -> None:
    hanging = Hanging()
    skills.runs["hang"] = hanging
    async with listening(app_of(skills), drain_timeout=0.2) as port:
        reader, _ = await post_raw(port, "/v1/skills/dev/hang/run")
        await within(hanging.started.wait())
    assert hanging.ended.is_set()
    answer = await within(reader.read())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"shutting_down" in answer


async def test_second_signal_ends_the_drain(skills: MemorySkills) -> None:
    hanging = Hanging()
    skills.runs["hang"] = hanging
    served = Served(skills, drain_timeout=1000)
    _, port = await within(served.bound.get())
    await post_raw(port, "/v1/skills/dev/hang/run")
    await within(hanging.started.wait())
    os.kill(os.getpid(), signal.SIGTERM)
    await within(_refused(port))
    os.kill(os.getpid(), signal.SIGTERM)
    await within(served.task)
    assert hanging.ended.is_set()


async def test_idle_connections_do_not_delay_the_end(skills: MemorySkills) -> None:
    begin = time.monotonic()
    async with listening(app_of(skills), drain_timeout=1000) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: kernel\r\n\r\n")
        await within(reader.readuntil(b"\r\n\r\nok"))
    assert await within(reader.read()) == b""
    assert time.monotonic() - begin < DEADLINE
