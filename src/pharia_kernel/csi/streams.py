"""Streams of events: read ahead for a guest, and completed for older clients."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from pharia_kernel.csi.types import Usage, UsageEvent
from pharia_kernel.errors import KernelError

T = TypeVar("T")

CAPACITY = 256
"""Events read ahead of the guest."""

log = logging.getLogger("pharia_kernel.csi")


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
        self._error: Exception | None = None
        self._ended = False
        self._task = asyncio.create_task(self._read())
        self._closing: asyncio.Task[None] | None = None

    async def _read(self) -> None:
        try:
            async for event in self._source:
                self._buffer.append(event)
                self._changed.set()
                if len(self._buffer) >= CAPACITY:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:
            self._error = error
        except asyncio.CancelledError:
            if self._closing is None:
                # Something behind the source was cancelled: a cut must not look like the end.
                self._error = KernelError("The stream was cut off inside the kernel.")
            raise
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()

    async def take(self) -> list[T]:
        """All events that are there, at least one; empty at the end of the stream and from then
        on."""
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
        """Stop reading and close the source, which ends its request; whoever waits for events
        finds the stream at its end.

        Never fails, and goes on in the background if it is cancelled. Closing again waits for the
        same.
        """
        if self._closing is None:
            self._task.cancel()
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await asyncio.wait({self._task})
        self._end()  # a task that is cancelled before its first step does not get to say so
        try:
            await self._source.aclose()
        except Exception:
            log.exception("a stream could not be closed properly")


async def ending_with_usage(
    source: AsyncGenerator[T, None],
) -> AsyncGenerator[T | UsageEvent, None]:
    """Where the backend tells no usage, say zero: the published SDK, which speaks WIT 0.3 and
    ``/csi/v1``, fails on a stream without usage."""
    told = False
    async with aclosing(source) as events:
        async for event in events:
            told = told or isinstance(event, UsageEvent)
            yield event
    if not told:
        yield UsageEvent(Usage(0, 0))
