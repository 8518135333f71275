"""A cache that loads each key once at a time, and remembers failures for a short while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from pharia_kernel.errors import CsiError
from pharia_kernel.single_flight import SingleFlight

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruDict(Generic[K, V]):
    """At most ``capacity`` values, each for ``ttl`` seconds; the least recently used go first."""

    def __init__(self, capacity: int, ttl: float, clock: Callable[[], float]) -> None:
        self._capacity = capacity
        self._ttl = ttl
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires = entry
        if self._clock() >= expires:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self._entries[key] = (value, self._clock() + self._ttl)
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)


class SingleFlightCache(Generic[K, V]):
    """Callers that want the same key at the same time share one load.

    The load goes on as long as one of them waits. A ``CsiError`` is remembered for ``failure_ttl``
    seconds, apart from the values, so that many bad keys don't push out the good values.
    """

    def __init__(
        self,
        *,
        capacity: int,
        ttl: float,
        failure_ttl: float,
        failure_capacity: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._values: LruDict[K, V] = LruDict(capacity, ttl, clock)
        self._failures: LruDict[K, CsiError] = LruDict(failure_capacity, failure_ttl, clock)
        self._flights: SingleFlight[K, V] = SingleFlight()

    async def get(self, key: K, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The value; raises what ``load`` raises."""
        value = self._values.get(key)
        if value is not None:
            return value
        failure = self._failures.get(key)
        if failure is not None:
            # Without this, the traceback would grow with every caller.
            raise failure.with_traceback(None)
        return await self._flights.do(key, lambda: self._load(key, load))

    async def _load(self, key: K, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        try:
            value = await load()
        except CsiError as error:
            self._failures.put(key, error)
            raise
        self._values.put(key, value)
        return value
