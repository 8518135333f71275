"""One call for all who want the same thing at the same time."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from pharia_kernel.errors import KernelError

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Joins equal calls while one of them is under way.

    A caller who gives up does not end the call for the others; a call must therefore end by
    itself, and what a lonely caller began goes on until it does.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, asyncio.Task[T]] = {}

    async def do(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(call())
            flight.add_done_callback(lambda done: self._land(key, done))
        try:
            return await asyncio.shield(flight)
        except KernelError as error:
            # Each caller raises an object of its own: tracebacks and ids are written on it.
            raise copy.copy(error) from error

    async def close(self) -> None:
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _land(self, key: Hashable, flight: asyncio.Task[T]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # those who still wait are told; nobody else wants to know
