"""The HTTP server: one listener from bind to drained."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pharia_kernel.shell.connection import HttpProtocol

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than clients keep theirs."""
_BACKLOG = 2048
_GRACE_AFTER_DRAIN = 1.0
"""Seconds that cancelled requests have to tell their clients."""
_POLL = 0.01
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class AddressUnavailable(OSError):
    """The kernel cannot listen where it should; the message says why and what to do."""


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    drain_timeout: float,
    on_bound: Callable[[str, int], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or ``stop``, then let requests finish for ``drain_timeout`` s.

    What is left then is cancelled (clients are told so) and its connections are closed; a second
    signal ends the drain at once. ``on_bound`` gets the address when connections are accepted: the
    real port if ``port`` is 0. ``stop`` is set by the signals too. Raises ``AddressUnavailable``.
    """
    listener = _bind(host, port)
    try:
        server = _Server(_config(app), drain_timeout, on_bound, stop or asyncio.Event())
        with server.stopped_by_signals():
            await server.serve(sockets=[listener])
    finally:
        listener.close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AddressUnavailable(
            error.errno,
            f"Cannot listen on {host}:{port}: {reason}. Free the address, or set another one with "
            "KERNEL_ADDRESS (of `pharia-kernel dev`: with --address).",
        ) from error


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
    )


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        drain_timeout: float,
        on_bound: Callable[[str, int], None] | None,
        stop: asyncio.Event,
    ) -> None:
        super().__init__(config)
        self._drain_timeout = drain_timeout
        self._on_bound = on_bound
        self._stop = stop

    @contextlib.contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        try:
            for number in _SIGNALS:
                loop.add_signal_handler(number, self._on_signal)
        except (ValueError, RuntimeError):  # not the main thread: whoever runs it has `stop`
            yield
            return
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        self.force_exit = self._stop.is_set()
        self._stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again and end the process before its other parts close."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_bound and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._on_bound(host, port)

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout):
                await super().shutdown(sockets)
        await self._cancel_rest()

    async def _cancel_rest(self) -> None:
        tasks: set[asyncio.Task[Any]] = set(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE_AFTER_DRAIN)
        await self._close_connections()

    async def _close_connections(self) -> None:
        """What was written still reaches clients that read; the others are cut off."""
        for connection in list(self.server_state.connections):
            connection.transport.close()
        deadline = time.monotonic() + _GRACE_AFTER_DRAIN
        while self.server_state.connections and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)  # uvicorn has no event for it
        for connection in list(self.server_state.connections):
            connection.transport.abort()
