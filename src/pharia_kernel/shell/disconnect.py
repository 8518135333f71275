"""A client that goes away cancels what it asked for."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.requests import ClientDisconnect
from starlette.types import Receive

_UNWATCHED = 0.02
"""Seconds. Most runs end earlier; to watch them took a tenth of what the kernel spends on a run."""


class CancelledOnDisconnect:
    """Context in which the current task is cancelled when the client disconnects.

    The context then raises ``ClientDisconnect``; a cancellation from elsewhere stays what it is. It
    is built like ``asyncio.timeout``: one helper task, which does not begin before the context has
    lasted a moment. The request's body must have been read before.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._disconnected = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(_UNWATCHED, self._begin_to_watch)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._watcher:
            self._watcher.cancel()
        if not self._disconnected:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientDisconnect() from error

    def _begin_to_watch(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        self._task.cancel()
