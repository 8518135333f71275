"""``/run`` and ``/message-stream``: the hot routes.

They are plain ASGI, because every layer between the socket and the skill is paid for on every run.
JSON goes through as bytes. What FastAPI would have documented is written in ``openapi``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.types import Receive, Scope, Send

from pharia_kernel.errors import BadRequest
from pharia_kernel.shell import sse
from pharia_kernel.shell.auth import principal_of
from pharia_kernel.shell.body import read_json
from pharia_kernel.shell.disconnect import CancelledOnDisconnect
from pharia_kernel.shell.problems import problem, shutting_down
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import Caller, StreamEvent

_ROUTE = re.compile(r"/v1/skills/([^/]+)/([^/]+)/(run|message-stream)")
_REPLACEMENT = "\ufffd"
_STREAM_START = {"type": "http.response.start", "status": 200, "headers": sse.HEADERS}


class Runs:
    """ASGI application for the paths that it ``answers``."""

    def __init__(self, skills: Skills, max_body_size: int) -> None:
        self._skills = skills
        self._max_body_size = max_body_size

    @staticmethod
    def answers(path: str) -> bool:
        return _ROUTE.fullmatch(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.fullmatch(scope["path"])
        assert route is not None
        caller = principal_of(scope).caller
        path = _skill_path(route[1], route[2])
        body = await read_json(dict(scope["headers"]), receive, self._max_body_size)
        if route[3] == "run":
            await self._run(path, body, caller, receive, send)
        else:
            await self._message_stream(path, body, caller, scope, receive, send)

    async def _run(
        self, path: SkillPath, body: bytes, caller: Caller, receive: Receive, send: Send
    ) -> None:
        async with CancelledOnDisconnect(receive):
            output = await self._skills.run(path, body, caller)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(output)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": output})

    async def _message_stream(
        self,
        path: SkillPath,
        body: bytes,
        caller: Caller,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        events = None
        try:
            async with CancelledOnDisconnect(receive):
                events = await self._skills.message_stream(path, body, caller)
                async with aclosing(events):
                    await send(_STREAM_START)
                    await _send_events(events, scope, send)
        except asyncio.CancelledError:
            # The server's drain time is over. Before the status is out, `Problems` says so.
            if events is None:
                raise
            await _send_frame(send, sse.error_frame(problem(shutting_down(), scope)))
        await send({"type": "http.response.body"})


async def _send_events(events: AsyncGenerator[StreamEvent, None], scope: Scope, send: Send) -> None:
    """Send each event as it comes. A failure becomes the last one: the status is already sent."""
    try:
        async for event in events:
            await _send_frame(send, sse.frame(event))
    except Exception as error:
        await _send_frame(send, sse.error_frame(problem(error, scope)))


async def _send_frame(send: Send, frame: bytes) -> None:
    await send({"type": "http.response.body", "body": frame, "more_body": True})


def _skill_path(namespace: str, name: str) -> SkillPath:
    # The server decodes percent escapes that are not UTF-8 to this character.
    if _REPLACEMENT in name:
        raise BadRequest("The skill's name in the URL is not valid UTF-8.")
    return SkillPath.parse(namespace, name)
