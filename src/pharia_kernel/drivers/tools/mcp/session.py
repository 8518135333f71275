"""One MCP session, opened with the official SDK and kept open in a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version

import httpx2
import mcp_types
import msgspec
from mcp.client import Client
from mcp.client.session import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from msgspec import Raw
from pydantic import TypeAdapter, ValidationError

from pharia_kernel.csi.types import Tool
from pharia_kernel.drivers.tools.mcp.endpoint import Endpoint
from pharia_kernel.drivers.tools.mcp.guard import GuardedTransport
from pharia_kernel.drivers.tools.mcp.transport import (
    CURRENT,
    MAX_ANSWER_BYTES,
    Exchange,
    IsolatingTransport,
)
from pharia_kernel.errors import OutboundRefused
from pharia_kernel.outbound import OutboundPolicy

log = logging.getLogger("pharia_kernel.tools")

CLOSE_SECONDS = 5.0
"""How long a server may take to close a session in order."""
MAX_PAGES = 100
"""Of one list of tools."""

CallResult = mcp_types.CallToolResult | mcp_types.InputRequiredResult
_CALL_RESULT: TypeAdapter[CallResult] = TypeAdapter(CallResult)

_QUIET = {
    # At INFO they write URLs with their queries, and session ids, which are secrets here.
    "client": logging.WARNING,
    "httpx2": logging.WARNING,
    "mcp": logging.WARNING,
    # What it writes reaches us as errors too, except for answers that come during a close.
    "mcp.client.streamable_http": logging.CRITICAL,
}
for _name, _level in _QUIET.items():
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(_level)


class Unanswered(Exception):
    """The server did not answer in the sense of MCP; the text goes on after "Tool server X"."""


class Forbidden(Unanswered):
    """The outbound policy does not let the kernel connect to the server."""


class SessionUnknown(Unanswered):
    """The server has forgotten the session, and did nothing."""


class Refused(Exception):
    """The server answered with a JSON-RPC error; the text has its code and message."""


class Session:
    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connect_timeout: float,
        on_event: Callable[[], None],
        outbound: OutboundPolicy | None = None,
    ) -> None:
        """``on_event`` is called when the list of tools has changed, and when the session is
        lost; ``outbound`` limits where connections may lead."""
        self._endpoint = endpoint
        self._outbound = outbound
        self._connect_timeout = connect_timeout
        self._on_event = on_event
        self._client: Client | None = None
        self._listening: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._calls = 0
        self._retired = False
        self._leave = asyncio.Event()
        self.lost = False
        """No call can succeed in it any more."""
        self._task = asyncio.create_task(self._hold(), name=f"MCP session {endpoint.label}")

    @property
    def protocol_version(self) -> str | None:
        return self._client.protocol_version if self._client else None

    # --- opening and closing ----------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait until calls are possible; raises ``Unanswered`` or ``Refused`` if they never are."""
        self._client = await asyncio.shield(self._ready)

    def retire(self) -> None:
        """Close it as soon as its calls have ended."""
        self._retired = True
        self._leave_if_idle()

    async def close(self) -> None:
        """Close it now, whatever goes on in it."""
        self._leave.set()
        await self.ended(CLOSE_SECONDS)

    async def ended(self, patience: float | None = None) -> None:
        """Wait until it is closed; after ``patience`` seconds its connections are cut."""
        _, late = await asyncio.wait({self._task}, timeout=patience)
        if late:
            log.warning("MCP server %s lets no session end; cut it", self._endpoint.label)
            self._task.cancel()
            await asyncio.wait(late)

    def when_ended(self, callback: Callable[[], None]) -> None:
        self._task.add_done_callback(lambda _: callback())

    def _leave_if_idle(self) -> None:
        if self._retired and self._calls == 0:
            self._leave.set()

    async def _hold(self) -> None:
        """The SDK wants a session to be left by the task that entered it: this one."""
        exchange = Exchange()
        try:
            async with self._connected(exchange) as client:
                self._ready.set_result(client)
                await self._leave.wait()
                await self._stop_listening()
        except Exception as error:
            log.debug("MCP session with %s ended", self._endpoint.label, exc_info=error)
            self._fail(_explained(error, exchange))
        finally:
            self._fail(Unanswered("was given up while its session was being opened"))
            self._lose()

    def _fail(self, failure: Unanswered | Refused) -> None:
        if not self._ready.done():
            self._ready.set_exception(failure)
            self._ready.exception()  # retrieved, should nobody wait for it

    @asynccontextmanager
    async def _connected(self, exchange: Exchange) -> AsyncIterator[Client]:
        async with httpx2.AsyncClient(
            headers={"accept-encoding": "identity", **dict(self._endpoint.headers)},
            # Exchanges have deadlines; silence is allowed.
            timeout=httpx2.Timeout(None, connect=self._connect_timeout),
            transport=IsolatingTransport(self._connections()),
            trust_env=False,
        ) as http:
            client = Client(
                streamable_http_client(
                    self._endpoint.url, http_client=http, max_sse_event_size=MAX_ANSWER_BYTES
                ),
                client_info=mcp_types.Implementation(
                    name="PhariaKernel", version=version("pharia-kernel")
                ),
                message_handler=self._on_message,
                cache=None,
            )
            token = CURRENT.set(exchange)
            async with asyncio.timeout(self._connect_timeout) as limit, client:
                CURRENT.reset(token)
                limit.reschedule(None)
                yield client

    def _connections(self) -> httpx2.AsyncHTTPTransport:
        """Raises ``OutboundRefused`` if the URL alone says that it is forbidden."""
        # Whoever uses the session limits how much goes on in it.
        limits = httpx2.Limits(max_connections=None)
        if self._outbound is None:
            return httpx2.AsyncHTTPTransport(limits=limits)
        self._outbound.check_url(self._endpoint.url)
        return GuardedTransport(self._outbound, limits=limits)

    def _lose(self) -> None:
        self.lost = True
        self._on_event()

    # --- operations -------------------------------------------------------------------------------

    async def tools(self, seconds: float) -> list[Tool]:
        """All pages of the list; raises ``Unanswered`` or ``Refused``."""
        exchange = Exchange(deadline=asyncio.get_running_loop().time() + seconds)
        tools: dict[str, Tool] = {}
        seen: set[str | None] = set()
        cursor: str | None = None
        async with self._operation(exchange) as client, asyncio.timeout(seconds):
            self._listen(client)
            while cursor not in seen:
                seen.add(cursor)
                page = await client.list_tools(cursor=cursor)
                for tool in page.tools:
                    tools.setdefault(tool.name, _tool(tool))
                cursor = page.next_cursor
                if cursor is None:
                    return list(tools.values())
                if len(seen) == MAX_PAGES:
                    break
        log.warning(
            "MCP server %s has no end to its list of tools: kept the %d tools of %d pages",
            self._endpoint.label,
            len(tools),
            len(seen),
        )
        return list(tools.values())

    async def call(
        self, tool: str, arguments: dict[str, object], *, seconds: float, headers: dict[str, str]
    ) -> CallResult:
        """The caller has to see to the time, ``seconds`` is when the transport cuts it off.

        Raises ``Unanswered`` or ``Refused``. If it is cancelled, the server hears of it."""
        exchange = Exchange(headers, asyncio.get_running_loop().time() + seconds)
        meta = mcp_types.RequestParamsMeta(**headers)  # type: ignore[typeddict-item]
        request = mcp_types.CallToolRequest(
            params=mcp_types.CallToolRequestParams(
                name=tool, arguments=arguments, _meta=meta or None
            )
        )
        async with self._operation(exchange) as client:
            # Not `call_tool`, which validates results with schemas that the server chooses: a
            # hostile pattern would hold up the event loop.
            return await client.session.send_request(request, _CALL_RESULT)

    @asynccontextmanager
    async def _operation(self, exchange: Exchange) -> AsyncIterator[Client]:
        if self._client is None or self.lost:
            raise SessionUnknown("has closed the session")
        self._calls += 1
        try:
            with _current(exchange):
                yield self._client
        except (MCPError, ValidationError, TimeoutError, RuntimeError) as error:
            failure = _explained(error, exchange)
            if isinstance(failure, SessionUnknown) or _is_closed(error):
                self._lose()
            raise failure from error
        finally:
            exchange.give_up()
            self._calls -= 1
            self._leave_if_idle()

    # --- changes of the list ----------------------------------------------------------------------

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._on_event()

    def _listen(self, client: Client) -> None:
        """Newer protocols tell changes only to those who listen; older ones tell everybody."""
        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or not tools:
            return
        if tools.list_changed and (self._listening is None or self._listening.done()):
            self._listening = asyncio.create_task(self._follow_changes(client))

    async def _follow_changes(self, client: Client) -> None:
        # Runs on when the operation that started it is over.
        with _current(None):
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self._on_event()
            except (MCPError, SubscriptionLost, RuntimeError) as error:
                log.debug("MCP server %s: not listening: %s", self._endpoint.label, error)

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})


@contextmanager
def _current(exchange: Exchange | None) -> Iterator[None]:
    token = CURRENT.set(exchange)
    try:
        yield
    finally:
        CURRENT.reset(token)


def _tool(tool: mcp_types.Tool) -> Tool:
    schema = Raw(msgspec.json.encode(tool.input_schema))
    return Tool(tool.name, tool.description or "", schema)


def _is_closed(error: Exception) -> bool:
    return isinstance(error, MCPError) and error.code == mcp_types.CONNECTION_CLOSED


def _explained(error: Exception, exchange: Exchange) -> Unanswered | Refused:
    """What an exception of the SDK means, given what happened below it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if exchange.session_unknown:
        return SessionUnknown("has forgotten the session")
    if isinstance(error, OutboundRefused):
        return Forbidden(error.detail)
    if exchange.forbidden is not None:
        return Forbidden(exchange.forbidden)
    if exchange.problem is not None:
        return Unanswered(exchange.problem)
    if isinstance(error, TimeoutError):
        return Unanswered("did not answer in time")
    if _is_closed(error):
        return Unanswered("closed the connection before its answer was complete")
    if isinstance(error, MCPError):
        return Refused(f"{error.message} (JSON-RPC error {error.code})")
    if isinstance(error, ValidationError):
        return Unanswered("gave an answer that does not conform to MCP")
    return Unanswered(f"does not speak MCP as expected: {error}")
