"""Bounds how many requests are at a backend at once, and shares the places fairly."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from pharia_kernel.errors import UpstreamOverloaded

# Ordered by arrival; a dictionary, so that a waiter that gives up is found without a search.
_Queue = OrderedDict[asyncio.Future[None], None]


class FairLimiter:
    """At most ``places`` holders. Waiters are served round-robin over tenants, in order within.

    So a tenant that asks ten thousand times at once delays another one by at most one place per
    turn. Not thread-safe: for one event loop.
    """

    def __init__(self, places: int, *, max_waiting: int) -> None:
        if places < 1:
            raise ValueError(f"A limiter needs at least one place, not {places}")
        self._free = places
        self._max_waiting = max_waiting
        self._waiting = 0
        self._queues: OrderedDict[str, _Queue] = OrderedDict()

    @property
    def waiting(self) -> int:
        return self._waiting

    async def acquire(self, tenant: str) -> None:
        """Take a place, until ``release``; raises ``UpstreamOverloaded`` if too many wait."""
        if self._free > 0:
            self._free -= 1
            return
        if self._waiting >= self._max_waiting:
            raise UpstreamOverloaded(
                f"{self._waiting} calls already wait for the inference backend.",
                retry_after=1.0,
            )
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(tenant, OrderedDict())[turn] = None
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            self._give_up(tenant, turn)
            raise

    def release(self) -> None:
        """Give the place to the next waiter, if there is one."""
        while self._queues:
            tenant, queue = self._queues.popitem(last=False)
            turn, _ = queue.popitem(last=False)
            if queue:
                self._queues[tenant] = queue
            self._waiting -= 1
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _give_up(self, tenant: str, turn: asyncio.Future[None]) -> None:
        if not turn.cancelled():
            # The place was handed over before the cancelled waiter could run.
            self.release()
        elif turn in (queue := self._queues.get(tenant, OrderedDict())):
            del queue[turn]
            self._waiting -= 1
            if not queue:
                del self._queues[tenant]
