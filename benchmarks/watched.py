"""A kernel whose event loop is watched: ``python -m benchmarks.watched``.

It reads its settings like ``pharia-kernel serve`` and has one route more, ``/stalls``: the longest
time for which the loop did not come round since it was asked last.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import uvloop
from msgspec import Struct
from starlette.types import ASGIApp, Receive, Scope, Send

from pharia_kernel import config
from pharia_kernel.config import Settings
from pharia_kernel.kernel import Kernel
from pharia_kernel.shell.serve import serve
from pharia_kernel.telemetry import logs

PATH = "/stalls"
_TICK = 0.001


class Stall(Struct):
    """All in seconds."""

    longest: float = 0.0
    processor: float = 0.0
    """What the loop's thread used of it: the rest it waited for a core or for Python's lock."""


class _Watch:
    """Comes round in the loop every millisecond and looks how late it is."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stall = Stall()
        self._begin()

    def taken(self) -> Stall:
        """The longest since the last call."""
        stall, self._stall = self._stall, Stall()
        return stall

    def _begin(self) -> None:
        self._due = time.perf_counter() + _TICK
        self._used = time.thread_time()
        self._loop.call_later(_TICK, self._look)

    def _look(self) -> None:
        late = time.perf_counter() - self._due
        if late > self._stall.longest:
            self._stall = Stall(late, time.thread_time() - self._used)
        self._begin()


def _with_stalls(app: ASGIApp, watch: _Watch) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") != PATH:
            await app(scope, receive, send)
            return
        body = msgspec.json.encode(watch.taken())
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    return answer


async def _serve(settings: Settings) -> None:
    address = settings.kernel_address
    async with Kernel(settings) as kernel:
        await serve(
            _with_stalls(kernel.app, _Watch()),
            address.host,
            address.port,
            drain_timeout=settings.drain_timeout,
        )


def main() -> None:
    settings = config.load()
    logs.configure(settings.log_filter, settings.log_format)
    uvloop.run(_serve(settings))


if __name__ == "__main__":
    main()
