"""Streams that a guest holds as resources."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")

_CAPACITY = 256
"""Events read ahead of the guest."""


class ReadAhead(Generic[T]):
    """Reads a generator in the background, so that what has arrived can be taken in one step.

    An error comes after the events that were read before it.
    """

    def __init__(self, source: AsyncGenerator[T, None]) -> None:
        self._source = source
        self._buffer: deque[T] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._error: BaseException | None = None
        self._ended = False
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for event in self._source:
                self._buffer.append(event)
                self._changed.set()
                if len(self._buffer) >= _CAPACITY:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._changed.set()

    async def take(self) -> list[T]:
        """All events that are there, at least one; empty at the end of the stream."""
        while not self._buffer and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        events = list(self._buffer)
        self._buffer.clear()
        self._room.set()
        if not events and self._error:
            raise self._error
        return events

    async def close(self) -> None:
        """Stop reading and close the source, which ends its request."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._source.aclose()
