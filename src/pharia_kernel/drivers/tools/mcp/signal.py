"""Waking up all who wait for a change."""

from __future__ import annotations

import asyncio


class Signal:
    """Unlike an event it does not stay set: ``wait`` returns at the next ``fire``."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def fire(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        await self._event.wait()
