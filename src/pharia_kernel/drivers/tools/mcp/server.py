"""One MCP server: keeps a session open, follows its list of tools, and calls them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from msgspec import Struct

from pharia_kernel.csi.types import Tool
from pharia_kernel.drivers.inference.limiter import FairLimiter
from pharia_kernel.drivers.tools.mcp.endpoint import Endpoint
from pharia_kernel.drivers.tools.mcp.session import (
    CLOSE_SECONDS,
    CallResult,
    Forbidden,
    Refused,
    Session,
    SessionUnknown,
    Unanswered,
)
from pharia_kernel.drivers.tools.mcp.signal import Signal
from pharia_kernel.errors import ToolFailed, UpstreamOverloaded
from pharia_kernel.outbound import OutboundPolicy

log = logging.getLogger("pharia_kernel.tools")

MAX_PARALLEL_CALLS = 64
"""To one server; namespaces share the places fairly."""
_MAX_WAITING_CALLS = 16_384
_MOST_DOUBLINGS = 16
_BURST_SECONDS = 0.1
"""A server that tells many changes in a row is asked once for all of them."""


class Policy(Struct, frozen=True, kw_only=True):
    """All in seconds."""

    refresh_interval: float = 60.0
    """How long a list of tools is believed when the server tells no change."""
    list_timeout: float = 30.0
    first_pause: float = 1.0
    """After the first failure; doubles with each further one."""
    longest_pause: float = 30.0
    keep_list: float = 300.0
    """How long the tools of a failing server stay on offer."""


class HealthState(StrEnum):
    CONNECTING = "connecting"
    HEALTHY = "healthy"
    FAILING = "failing"


class Server:
    """Tasks start with ``start`` and end some time after ``retire``, or with ``close``."""

    def __init__(
        self,
        endpoint: Endpoint,
        policy: Policy,
        on_change: Callable[[], None],
        outbound: OutboundPolicy | None = None,
    ) -> None:
        """``on_change`` is called when ``tools`` or the health are not what they were;
        ``outbound`` limits where connections may lead."""
        self.endpoint = endpoint
        self._outbound = outbound
        self.connect_timeout = 10.0
        self.since = time.time()
        """When the state of health began, as a Unix time."""
        self.error: str | None = None
        """Why it is failing."""
        self.tried = False
        """Whether it has been asked once what it has, with whatever success."""
        self._policy = policy
        self._on_change = on_change
        self._limiter = FairLimiter(MAX_PARALLEL_CALLS, max_waiting=_MAX_WAITING_CALLS)
        self._tools: list[Tool] = []
        self._failures = 0
        self._failing_since = 0.0
        self._session: Session | None = None
        self._sessions: set[Session] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._notice = asyncio.Event()
        """Something happened to the session, or with its list."""
        self._wanted = asyncio.Event()
        """A call came while there was no session."""
        self._settled = Signal()

    # --- what is known ----------------------------------------------------------------------------

    @property
    def state(self) -> HealthState:
        if self.error is not None:
            return HealthState.FAILING
        return HealthState.CONNECTING if self._session is None else HealthState.HEALTHY

    @property
    def protocol_version(self) -> str | None:
        return self._session.protocol_version if self._session else None

    @property
    def tools(self) -> list[Tool]:
        """The last list; empty if the server has been failing for too long."""
        if self.error is not None and self._failing_for() >= self._policy.keep_list:
            return []
        return self._tools

    def _failing_for(self) -> float:
        return time.monotonic() - self._failing_since

    # --- start and end ----------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background, from now on."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"MCP server {self.endpoint.label}")

    async def retire(self) -> None:
        """Take no new calls; returns when those that run have ended and all sessions are closed."""
        self._stop()
        if self._task is not None:
            await asyncio.wait({self._task})
        await asyncio.gather(*(session.ended() for session in self._sessions))

    async def close(self) -> None:
        """End calls and sessions now."""
        self._stop()
        await asyncio.gather(*(session.close() for session in self._sessions))
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
                await asyncio.wait({task})

    def _stop(self) -> None:
        self._stopped.set()
        self._notice.set()
        self._wanted.set()
        self._settled.fire()

    # --- following the server ---------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopped.is_set():
            self._notice.clear()
            try:
                await self._follow()
            except (Unanswered, Refused) as error:
                if isinstance(error, Forbidden):
                    self._tools = []
                self._fail(str(error))
                await self._pause()
            except Exception:
                log.exception("Following MCP server %s failed", self.endpoint.label)
                self._fail("met a fault in the kernel")
                await self._pause()

    async def _follow(self) -> None:
        """Open a session and keep the list of tools up to date, until the session is lost.

        Raises ``Unanswered`` or ``Refused`` if there is no list to begin with.
        """
        async with self._new_session() as session:
            self._succeed(session, await session.tools(self._policy.list_timeout))
            while not await self._session_over(session):
                try:
                    tools = await session.tools(self._policy.list_timeout)
                except (Unanswered, Refused) as error:
                    log.warning("MCP server %s %s: connecting again", self.endpoint.label, error)
                    return
                self._succeed(session, tools)

    @asynccontextmanager
    async def _new_session(self) -> AsyncIterator[Session]:
        session = Session(
            self.endpoint,
            connect_timeout=self.connect_timeout,
            on_event=self._notice.set,
            outbound=self._outbound,
        )
        self._sessions.add(session)
        session.when_ended(lambda: self._sessions.discard(session))
        try:
            await session.opened()
            yield session
        finally:
            self._session = None
            session.retire()
            if self.error is None:
                self.since = time.time()
                self._on_change()

    async def _session_over(self, session: Session) -> bool:
        """Wait until there is a reason to ask for the list again, or for another session."""
        await _set_within(self._notice, _with_jitter(self._policy.refresh_interval))
        if self._notice.is_set() and not session.lost:
            await _set_within(self._stopped, _BURST_SECONDS)
        self._notice.clear()
        return self._stopped.is_set() or session.lost

    async def _pause(self) -> None:
        """Before the next attempt. A call that comes in the meantime ends it, but not at once."""
        shortest = _with_jitter(self._policy.first_pause)
        doubled = shortest * 2 ** min(self._failures - 1, _MOST_DOUBLINGS)
        self._wanted.clear()
        await _set_within(self._stopped, shortest)
        if not self._stopped.is_set():
            await _set_within(self._wanted, min(doubled, self._policy.longest_pause) - shortest)

    def _succeed(self, session: Session, tools: list[Tool]) -> None:
        changed = tools != self._tools or self._session is None or self.error is not None
        if self.error is not None:
            log.info("MCP server %s works again", self.endpoint.label)
        if self._session is None:
            self.since = time.time()
        self._tools, self._session = tools, session
        self._failures, self.error = 0, None
        self.tried = True
        self._settled.fire()
        if changed:
            self._on_change()

    def _fail(self, error: str) -> None:
        if self.error is None:
            self.since, self._failing_since = time.time(), time.monotonic()
        if self.error != error:
            log.error("MCP server %s %s", self.endpoint.label, error)
        self._failures += 1
        self.error = error
        self.tried = True
        self._settled.fire()
        self._on_change()

    # --- calls ------------------------------------------------------------------------------------

    async def call(
        self,
        tool: str,
        arguments: dict[str, object],
        *,
        seconds: float,
        tenant: str,
        headers: dict[str, str],
    ) -> CallResult:
        """Raises ``ToolFailed``. Cancelling it cancels the request at the server."""
        try:
            async with asyncio.timeout(seconds), self._place(tenant):
                return await self._call(tool, arguments, seconds, headers)
        except TimeoutError:
            raise self._failed(f"did not answer within {seconds:g} s") from None
        except UpstreamOverloaded:
            raise self._failed("has too many calls waiting") from None
        except Unanswered as error:
            self._notice.set()
            raise self._failed(str(error)) from error
        except Refused as error:
            raise ToolFailed(f"Tool {tool} failed: {error}") from error

    async def _call(
        self, tool: str, arguments: dict[str, object], seconds: float, headers: dict[str, str]
    ) -> CallResult:
        session = await self._live_session()
        try:
            return await session.call(tool, arguments, seconds=seconds, headers=headers)
        except SessionUnknown:
            # Nothing was done, so it does no harm to ask again in a new session.
            session = await self._live_session()
            return await session.call(tool, arguments, seconds=seconds, headers=headers)

    async def _live_session(self) -> Session:
        while self._session is None or self._session.lost:
            if self._stopped.is_set():
                raise Unanswered("is no longer in use")
            if self.error is not None:
                self._wanted.set()
                raise Unanswered(self.error)
            await self._settled.wait()
        return self._session

    @asynccontextmanager
    async def _place(self, tenant: str) -> AsyncIterator[None]:
        await self._limiter.acquire(tenant)
        try:
            yield
        finally:
            self._limiter.release()

    def _failed(self, how: str) -> ToolFailed:
        return ToolFailed(f"Tool server {self.endpoint.label} {how}.")


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _with_jitter(seconds: float) -> float:
    """So that servers are not all asked at the same time."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
