"""Events of the CSI as an HTTP answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from starlette.types import Receive, Scope, Send

from pharia_kernel.shell import sse
from pharia_kernel.shell.disconnect import CancelledOnDisconnect
from pharia_kernel.shell.problems import problem, shutting_down

E = TypeVar("E")

KEEP_ALIVE_COMMENT = b": keep-alive\n\n"


async def send_events(
    open_events: Callable[[], AsyncGenerator[E, None]],
    frame: Callable[[E], bytes],
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    keep_alive: int | None = None,
) -> None:
    """Send the events as they come; a failure becomes the last one.

    The status is sent with the first event, so that a failure before it is raised and gets a status
    of its own; with ``keep_alive`` no later than after so many seconds. Disconnecting closes the
    events.
    """
    answer = _Answer(send, keep_alive)
    try:
        async with CancelledOnDisconnect(receive), answer.kept_alive():
            try:
                async with aclosing(open_events()) as events:
                    async for event in events:
                        await answer.write(frame(event))
            except Exception as error:
                if not answer.started:
                    raise
                await answer.write(sse.error_frame(problem(error, scope)))
    except asyncio.CancelledError:
        # The server's drain time is over. Before the status is out, `Problems` says so.
        if not answer.started:
            raise
        await answer.write(sse.error_frame(problem(shutting_down(), scope)))
    await answer.end()


class _Answer:
    def __init__(self, send: Send, keep_alive: int | None) -> None:
        self.started = False
        self._send = send
        self._keep_alive = keep_alive
        self._turn = asyncio.Lock()
        self._last_write = asyncio.get_running_loop().time()

    async def write(self, body: bytes) -> None:
        async with self._turn:
            await self._start()
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            self._last_write = asyncio.get_running_loop().time()

    async def end(self) -> None:
        await self._start()
        await self._send({"type": "http.response.body"})

    async def _start(self) -> None:
        if self.started:
            return
        headers = [*sse.HEADERS]
        if self._keep_alive:
            headers.append((b"preference-applied", b"keep-alive=%d" % self._keep_alive))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.started = True

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        if self._keep_alive is None:
            yield
            return
        task = asyncio.create_task(self._break_silence(self._keep_alive))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _break_silence(self, longest: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._last_write + longest - loop.time())
            if loop.time() >= self._last_write + longest:
                await self.write(KEEP_ALIVE_COMMENT)
