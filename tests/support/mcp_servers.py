"""MCP servers, written with the official SDK, that can be watched and upset.

``ToolServer`` serves on a free loopback port of this event loop. It can speak the protocol with
sessions (``Era.SESSIONS``, up to 2025-11-25) as servers of earlier SDKs do, or the newest one that
has none.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, cast

import mcp_types as types
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ToolsListChanged
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import AnyHttpUrl
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pharia_kernel.drivers.tools.mcp.server import MAX_PARALLEL_CALLS

Context = ServerRequestContext[Any, Any]
Handler = Callable[["ToolServer", Context, dict[str, Any]], Awaitable[types.CallToolResult]]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)
OGG = b"OggS" + bytes(97)


class Era(Enum):
    SESSIONS = auto()
    """Only the protocols with a handshake; anything newer is refused as SDK 1.x does."""
    MODERN = auto()
    """Everything the SDK has; with its client that is the protocol without sessions."""


@dataclass
class Received:
    http_method: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body)) if self.body else {}


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.bound = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are for the tests' own process

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.bound.set()


@dataclass
class ToolServer:
    tools: list[types.Tool]
    handlers: dict[str, Handler]
    era: Era = Era.SESSIONS
    stateless: bool = False
    json_response: bool = False
    token: str | None = None
    page_size: int = 0
    """Tools per page of the list; 0 is all on one."""
    endless: bool = False
    """The list never has a last page."""
    gate: asyncio.Event | None = None
    """The list waits for it."""
    url: str = ""
    port: int = 0
    # What happened.
    received: list[Received] = field(default_factory=list)
    open_sessions: set[str] = field(default_factory=set)
    """Ids that were handed out and not deleted."""
    deleted: asyncio.Event = field(default_factory=asyncio.Event)
    """No session is open any more."""
    listening: asyncio.Event = field(default_factory=asyncio.Event)
    """A client listens to changes."""
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    """The list has been asked for; a test may clear it."""
    waiting: Counter[str] = field(default_factory=Counter)
    """Calls that have come to the tools that wait, by tool."""
    most_crowded: int = 0
    """Calls that were in `crowd` at once."""
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    """What `crowd` waits for."""
    crowded: asyncio.Event = field(default_factory=asyncio.Event)
    """As many calls are in `crowd` as the kernel makes at once."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """A call has come to `hang`."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """A call in `hang` was cancelled."""
    met: asyncio.Event = field(default_factory=asyncio.Event)
    """Two calls have been in `meet` at once."""
    cut: str | None = None
    """Break the connection of calls of this tool."""
    mute: bool = False
    """Take requests and never answer."""
    # Its parts.
    _bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)
    _uvicorn: _Uvicorn | None = None
    _task: asyncio.Task[None] | None = None

    def calls(self, tool: str) -> list[Received]:
        return [
            request
            for request in self.requests("tools/call")
            if request.message["params"]["name"] == tool
        ]

    def requests(self, method: str) -> list[Received]:
        """Those with a JSON-RPC method."""
        return [r for r in self.received if r.message.get("method") == method]

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """On the port it had before, if it had one."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        app = self._app()
        config = uvicorn.Config(
            self._watched(app),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=0,
        )
        self._uvicorn = _Uvicorn(config)
        self._task = asyncio.create_task(self._serve(app, listener))
        await asyncio.wait_for(self._uvicorn.bound.wait(), 10)

    async def die(self) -> None:
        """Cut all connections and forget all sessions."""
        assert self._task and self._uvicorn
        self._uvicorn.should_exit = True
        await self._task
        self.open_sessions.clear()
        self.listening.clear()

    async def _serve(self, app: Any, listener: socket.socket) -> None:
        assert self._uvicorn
        async with app.router.lifespan_context(app):
            await self._uvicorn.serve(sockets=[listener])

    def _app(self) -> Any:
        server: Server[Any] = Server(
            "tests",
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=ListenHandler(_TellingBus(self._bus, self.listening)),
        )
        auth = self.token and AuthSettings(
            issuer_url=AnyHttpUrl("http://127.0.0.1/issuer"),
            resource_server_url=AnyHttpUrl("http://127.0.0.1/mcp"),
            validate_token_resource=False,
        )
        return server.streamable_http_app(
            json_response=self.json_response,
            stateless_http=self.stateless,
            auth=auth or None,
            token_verifier=self if auth else None,
        )

    async def verify_token(self, token: str) -> AccessToken | None:
        if token != self.token:
            return None
        return AccessToken(token=token, client_id="kernel", scopes=[])

    # --- tools ------------------------------------------------------------------------------------

    async def _list(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        self.listed.set()
        if self.gate:
            await self.gate.wait()
        start = int(params.cursor) if params and params.cursor else 0
        end = start + (self.page_size or len(self.tools) or 1)
        cursor = str(end) if end < len(self.tools) or self.endless else None
        return types.ListToolsResult(tools=self.tools[start:end], next_cursor=cursor)

    async def _call(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name not in self.handlers:
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
        return await self.handlers[params.name](self, context, params.arguments or {})

    async def announce_tools(self) -> None:
        """Tell clients of the newest protocol that the list has changed."""
        await self._bus.publish(ToolsListChanged())

    # --- the wire ---------------------------------------------------------------------------------

    def _watched(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            request = Received(scope["method"], headers, await _body(receive))
            self.received.append(request)
            unread = [{"type": "http.request", "body": request.body, "more_body": False}]

            async def replay() -> Message:
                return unread.pop() if unread else await receive()

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._note(request, message["status"], dict(message["headers"]))
                await send(message)

            version = headers.get("mcp-protocol-version", HANDSHAKE_PROTOCOL_VERSIONS[-1])
            if self.mute:
                await asyncio.Event().wait()
            elif self.cut and self.cut == request.message.get("params", {}).get("name"):
                await _half_an_answer(send)
            elif self.era is Era.SESSIONS and version not in HANDSHAKE_PROTOCOL_VERSIONS:
                await _unsupported(version)(scope, replay, sending)
            else:
                await app(scope, replay, sending)

        return watched

    def _note(self, request: Received, status: int, headers: dict[bytes, bytes]) -> None:
        session = headers.get(b"mcp-session-id")
        if request.http_method == "GET" and status == 200:
            self.listening.set()
        elif request.http_method == "DELETE" and status == 200:
            self.open_sessions.discard(request.headers["mcp-session-id"])
            if not self.open_sessions:
                self.deleted.set()
        elif session and status == 200 and request.message.get("method") == "initialize":
            self.open_sessions.add(session.decode())
            self.deleted.clear()


class _TellingBus:
    def __init__(self, bus: InMemorySubscriptionBus, listening: asyncio.Event) -> None:
        self._bus = bus
        self._listening = listening

    async def publish(self, event: ServerEvent) -> None:
        await self._bus.publish(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        self._listening.set()
        return self._bus.subscribe(listener)


async def _body(receive: Receive) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _half_an_answer(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


def _unsupported(version: str) -> Response:
    error = {"code": -32600, "message": f"Bad Request: Unsupported protocol version: {version}"}
    return JSONResponse({"jsonrpc": "2.0", "id": "server-error", "error": error}, status_code=400)


@asynccontextmanager
async def running(*names: str, **options: Any) -> AsyncGenerator[ToolServer, None]:
    """A server with these tools of ``HANDLERS``, all by default."""
    names = names or tuple(HANDLERS)
    server = ToolServer(
        [tool(name) for name in names], {name: HANDLERS[name] for name in names}, **options
    )
    await server.start()
    try:
        yield server
    finally:
        await server.die()


# --- tools ----------------------------------------------------------------------------------------


def tool(name: str, description: str | None = None) -> types.Tool:
    return types.Tool(name=name, description=description, input_schema={"type": "object"})


def text(*parts: str, is_error: bool = False) -> types.CallToolResult:
    content: list[types.ContentBlock] = [types.TextContent(text=part) for part in parts]
    return types.CallToolResult(content=content, is_error=is_error)


async def _echo(_: ToolServer, __: Context, arguments: dict[str, Any]) -> types.CallToolResult:
    return text(json.dumps(arguments, sort_keys=True))


async def _where(server: ToolServer, _: Context, __: dict[str, Any]) -> types.CallToolResult:
    return text(server.url)


async def _hang(server: ToolServer, _: Context, __: dict[str, Any]) -> types.CallToolResult:
    server.waiting["hang"] += 1
    server.arrived.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        server.cancelled.set()
        raise
    raise AssertionError("nobody sets the event")


async def _meet(server: ToolServer, _: Context, __: dict[str, Any]) -> types.CallToolResult:
    server.waiting["meet"] += 1
    if server.waiting["meet"] == 2:
        server.met.set()
    await server.met.wait()
    return text("met")


async def _crowd(server: ToolServer, _: Context, __: dict[str, Any]) -> types.CallToolResult:
    server.waiting["crowd"] += 1
    server.most_crowded = max(server.most_crowded, server.waiting["crowd"])
    if server.waiting["crowd"] == MAX_PARALLEL_CALLS:
        server.crowded.set()
    await server.let_go.wait()
    server.waiting["crowd"] -= 1
    return text("through")


async def _fail(_: ToolServer, __: Context, ___: dict[str, Any]) -> types.CallToolResult:
    return text("No cheese.", "Try the shop.", is_error=True)


async def _fail_silently(_: ToolServer, __: Context, ___: dict[str, Any]) -> types.CallToolResult:
    return text(is_error=True)


async def _refuse(_: ToolServer, __: Context, ___: dict[str, Any]) -> types.CallToolResult:
    raise MCPError(-32042, "Not on a Sunday")


async def _structured(_: ToolServer, __: Context, ___: dict[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(content=[], structured_content={"degrees": 21.5, "sky": "blå"})


async def _structured_and_text(
    _: ToolServer, __: Context, ___: dict[str, Any]
) -> types.CallToolResult:
    content: list[types.ContentBlock] = [types.TextContent(text="21.5 degrees")]
    return types.CallToolResult(content=content, structured_content={"degrees": 21.5})


async def _media(_: ToolServer, __: Context, ___: dict[str, Any]) -> types.CallToolResult:
    blob = base64.b64encode(bytes(10)).decode()
    return types.CallToolResult(
        content=[
            types.TextContent(text="Look:"),
            types.ImageContent(data=base64.b64encode(PNG).decode(), mime_type="image/png"),
            types.AudioContent(data=base64.b64encode(OGG).decode(), mime_type="audio/ogg"),
            types.ResourceLink(
                uri="file:///report.pdf", name="report", mime_type="application/pdf", size=4096
            ),
            types.EmbeddedResource(
                resource=types.TextResourceContents(
                    uri="file:///note.txt", mime_type="text/plain", text="blå"
                )
            ),
            types.EmbeddedResource(
                resource=types.BlobResourceContents(uri="file:///raw", blob=blob)
            ),
        ]
    )


async def _chatty(_: ToolServer, context: Context, __: dict[str, Any]) -> types.CallToolResult:
    for line in ("one", "two"):
        notification = types.LoggingMessageNotification(
            params=types.LoggingMessageNotificationParams(level="info", data=line)
        )
        await context.session.send_notification(notification, context.request_id)
    return text("done")


async def _grow(server: ToolServer, context: Context, _: dict[str, Any]) -> types.CallToolResult:
    server.tools.append(tool("grown"))
    await context.session.send_tool_list_changed()
    return text("grown")


HANDLERS: dict[str, Handler] = {
    "chatty": _chatty,
    "crowd": _crowd,
    "echo": _echo,
    "fail": _fail,
    "fail_silently": _fail_silently,
    "grow": _grow,
    "hang": _hang,
    "media": _media,
    "meet": _meet,
    "refuse": _refuse,
    "structured": _structured,
    "structured_and_text": _structured_and_text,
    "where": _where,
}
