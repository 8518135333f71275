"""``POST /mcp/{namespace}``: MCP over Streamable HTTP, without sessions.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#streamable-http
Every request stands for itself: it has the caller's token, and ends with its connection. Answers
are event streams, in which the text of a message stream comes as notifications of progress, if the
client has asked for these.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from msgspec import Raw
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from pharia_kernel.errors import KernelError, SkillBug
from pharia_kernel.shell.auth import principal_of
from pharia_kernel.shell.gathering import Room
from pharia_kernel.shell.mcp import tools
from pharia_kernel.shell.mcp.tools import SkillTool
from pharia_kernel.shell.problems import problem
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.types import (
    Caller,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    SkillInfo,
    SkillStatus,
)

for _name, _level in {
    # A line or more for each request, of which the kernel's own telemetry tells.
    "mcp.server.streamable_http_manager": logging.WARNING,
    "mcp.server.streamable_http": logging.CRITICAL,
}.items():
    logging.getLogger(_name).setLevel(_level)

_LONGEST_WAIT = 15.0
"""Seconds that a list of tools waits for skills that are being prepared. Clients do not wait for
much longer, and would have none of the other tools."""
_NAMESPACE = "pharia_kernel.mcp.namespace"

Context = ServerRequestContext[Any, Request]


class McpEndpoint:
    """ASGI application for requests whose namespace is known and whose caller may run skills."""

    def __init__(self, skills: Skills, version: str, max_body_size: int) -> None:
        self._skills = skills
        self._max_body_size = max_body_size
        self._server: Server[Any] = Server(
            "PhariaKernel",
            version=version,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )

    async def serve(self, namespace: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # One for each request, so that what the request began ends with it.
        manager = StreamableHTTPSessionManager(
            self._server, stateless=True, max_request_body_size=self._max_body_size
        )
        async with manager.run():
            await manager.handle_request({**scope, _NAMESPACE: namespace}, receive, send)

    async def _list(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        caller = principal_of(_scope(context)).caller
        wanted = [
            self._usable(info, caller)
            for info in self._skills.list()
            if info.path.namespace == _scope(context)[_NAMESPACE]
            and info.status is not SkillStatus.FAILED
        ]
        found = await asyncio.gather(*wanted)
        return types.ListToolsResult(tools=[skill.tool for skill in found if skill])

    async def _call(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        scope = _scope(context)
        caller = principal_of(scope).caller
        info = self._named(scope[_NAMESPACE], params.name)
        try:
            skill = await self._tool(info, caller)
            body = skill.body(params.arguments)
            if skill.streams:
                return await self._stream(skill, body, caller, context)
            return tools.function_result(await self._skills.run(info.path, body, caller))
        except Exception as error:
            told = problem(error, scope)
            return tools.error_result(f"{told['title']}: {told['detail']}")

    def _named(self, namespace: str, name: str) -> SkillInfo:
        for info in self._skills.list():
            if (info.path.namespace, info.path.name) == (namespace, name):
                return info
        raise MCPError(types.INVALID_PARAMS, f"Namespace `{namespace}` has no skill `{name}`.")

    async def _usable(self, info: SkillInfo, caller: Caller) -> SkillTool | None:
        try:
            async with asyncio.timeout(_LONGEST_WAIT):
                return await self._tool(info, caller)
        except (KernelError, TimeoutError):
            return None  # it can't be run either, or not now

    async def _tool(self, info: SkillInfo, caller: Caller) -> SkillTool:
        try:
            metadata = await self._skills.metadata(info.path, caller)
        except SkillBug:
            metadata = None  # its metadata is broken; that does not mean that it can't run
        return tools.described(info, metadata)

    async def _stream(
        self, skill: SkillTool, body: bytes, caller: Caller, context: Context
    ) -> types.CallToolResult:
        messages: list[list[str]] = []
        room = Room()
        payload = Raw(b"null")
        heard = 0
        async with aclosing(
            await self._skills.message_stream(skill.info.path, body, caller)
        ) as events:
            async for event in events:
                match event:
                    case MessageBegin():
                        messages.append([room.take()])
                    case MessageAppend(text=text):
                        messages[-1].append(room.take(text))
                        heard += 1
                        await context.session.report_progress(heard, message=text)
                    case MessageEnd():
                        payload = event.payload
        return tools.stream_result(["".join(pieces) for pieces in messages], payload)


def _scope(context: Context) -> Scope:
    assert context.request is not None
    return context.request.scope
