"""``/csi/v1/*``, ``/csi/v2/*`` and ``/csi`` as an ASGI application.

Plain ASGI like ``shell.runs``: bodies are decoded from bytes to typed structs in one step, and
answers and events are encoded the same way.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

import msgspec
from starlette.types import Receive, Scope, Send

from pharia_kernel.csi.api import Csi
from pharia_kernel.csi.concurrency import all_of
from pharia_kernel.csi.types import CallContext
from pharia_kernel.shell.auth import Permission, principal_of
from pharia_kernel.shell.body import read_json
from pharia_kernel.shell.csi import legacy
from pharia_kernel.shell.csi.access import named_namespaces
from pharia_kernel.shell.csi.functions import VERSIONS, Batch, Function, Stream
from pharia_kernel.shell.csi.preferences import Preferences, preferences
from pharia_kernel.shell.csi.requests import decode
from pharia_kernel.shell.csi.streaming import send_events
from pharia_kernel.shell.disconnect import CancelledOnDisconnect
from pharia_kernel.shell.exchange import note_route
from pharia_kernel.shell.problems import problem
from pharia_kernel.skills.types import Caller

_V2 = "/csi/v2/"
_ROUTES: dict[str, Function] = {
    f"/csi/{version}/{name}": function
    for version, functions in VERSIONS.items()
    for name, function in functions.items()
}
_ITEM_ERRORS = (b"preference-applied", b"item-errors")


class CsiCalls:
    """ASGI application for the paths that it ``answers``."""

    def __init__(self, csi: Csi, max_body_size: int, time_limit: float) -> None:
        """``time_limit`` in seconds is for a call, or a stream from its beginning to its end."""
        self._csi = csi
        self._max_body_size = max_body_size
        self._time_limit = time_limit

    @staticmethod
    def answers(path: str) -> bool:
        return path in _ROUTES or path == legacy.PATH

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = principal_of(scope)
        body = await read_json(dict(scope["headers"]), receive, self._max_body_size)
        path = scope["path"]
        note_route(scope, path)
        function = legacy.function(body) if path == legacy.PATH else _ROUTES[path]
        asked = decode(function.decoder, body)
        for namespace in named_namespaces(asked):
            principal.require(namespace, Permission.CSI)
        wanted = preferences(scope["headers"]) if path.startswith(_V2) else Preferences()
        context = self._context(principal.caller)
        exchange = _Exchange(self._csi, context, wanted, scope, receive, send)
        await exchange.answer(function, asked)

    def _context(self, caller: Caller) -> CallContext:
        return CallContext(
            token=caller.token,
            # Drivers share their capacity fairly between runs: an HTTP request counts as one.
            run_id=uuid4().hex,
            deadline=time.monotonic() + self._time_limit,
            trace_headers=caller.trace_headers,
        )


class _Exchange:
    """A request that is understood, and its answer."""

    def __init__(
        self,
        csi: Csi,
        context: CallContext,
        wanted: Preferences,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._csi = csi
        self._context = context
        self._wanted = wanted
        self._scope = scope
        self._receive = receive
        self._send = send

    async def answer(self, function: Function, asked: Any) -> None:
        if isinstance(function, Stream):
            await self._stream(function, asked)
        elif isinstance(function, Batch) and self._wanted.item_errors:
            await self._send_json(self._call_each(function, asked), _ITEM_ERRORS)
        else:
            await self._send_json(function.call(self._csi, asked, self._context))

    async def _stream(self, function: Stream, asked: Any) -> None:
        await send_events(
            lambda: function.open(self._csi, asked, self._context),
            function.frame,
            self._scope,
            self._receive,
            self._send,
            keep_alive=self._wanted.keep_alive,
        )

    def _call_each(self, function: Batch, asked: list[Any]) -> Awaitable[list[dict[str, Any]]]:
        return all_of([self._call_one(function, item) for item in asked])

    async def _call_one(self, function: Batch, item: Any) -> dict[str, Any]:
        try:
            (answer,) = await function.call(self._csi, [item], self._context)
        except Exception as error:
            return {"error": problem(error, self._scope)}
        return {"ok": answer}

    async def _send_json(self, answer: Awaitable[Any], *headers: tuple[bytes, bytes]) -> None:
        async with CancelledOnDisconnect(self._receive):
            body = msgspec.json.encode(await answer)
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": head})
        await self._send({"type": "http.response.body", "body": body})
