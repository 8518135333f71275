"""``/openai/v1``: skills that take ``messages``, as models.

Errors have the form that clients of that API know; those of the guard are problem objects as
everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pharia_kernel.errors import KernelError, ModelNotFound, SkillBug, SkillNotFound
from pharia_kernel.shell import sse
from pharia_kernel.shell.auth import Permission, principal_of
from pharia_kernel.shell.body import read_json
from pharia_kernel.shell.disconnect import CancelledOnDisconnect
from pharia_kernel.shell.gathering import Room
from pharia_kernel.shell.openai.chats import (
    MESSAGES,
    Answer,
    ChatRequest,
    ErrorBody,
    finish_reason,
    properties,
    text_of,
)
from pharia_kernel.shell.problems import problem, problem_response, shutting_down
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.types import (
    Caller,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    SkillInfo,
    SkillKind,
    SkillMetadata,
    SkillStatus,
    StreamEvent,
)

CHAT = "/openai/v1/chat/completions"
MODELS = "/openai/v1/models"
_STREAM_START = {"type": "http.response.start", "status": 200, "headers": sse.HEADERS}


class OpenAiRoutes:
    """ASGI application for the paths that it ``answers``."""

    def __init__(self, skills: Skills, max_body_size: int) -> None:
        self._skills = skills
        self._max_body_size = max_body_size

    @staticmethod
    def answers(path: str) -> bool:
        return path in (CHAT, MODELS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == MODELS:
            await _send_json(send, 200, await self._models(scope))
            return
        try:
            body = await read_json(dict(scope["headers"]), receive, self._max_body_size)
            request = ChatRequest.read(body)
            principal_of(scope).require(request.skill.namespace, Permission.RUN)
            await self._chat(request, scope, receive, send)
        except ClientDisconnect:
            raise
        except Exception as error:
            await _send_failure(send, problem_response(error, scope))

    async def _models(self, scope: Scope) -> dict[str, Any]:
        principal = principal_of(scope)
        wanted = [
            self._model(info, principal.caller)
            for info in self._skills.list()
            if info.status is SkillStatus.READY
            and principal.may(info.path.namespace, Permission.RUN)
        ]
        found = [model for model in await asyncio.gather(*wanted) if model]
        return {"object": "list", "data": found}

    async def _model(self, info: SkillInfo, caller: Caller) -> dict[str, Any] | None:
        try:
            metadata = await self._skills.metadata(info.path, caller)
        except KernelError:
            return None
        if MESSAGES not in properties(metadata):
            return None
        created = int(info.since or 0)
        owner = info.path.namespace
        return {"id": str(info.path), "object": "model", "created": created, "owned_by": owner}

    async def _chat(self, request: ChatRequest, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        try:
            async with CancelledOnDisconnect(receive):
                events = await self._events(request, principal_of(scope).caller)
                async with aclosing(events):
                    if not request.stream:
                        await _send_json(send, 200, await _collected(request, events))
                        return
                    await send(_STREAM_START)
                    started = True
                    await _send_chunks(request, events, scope, send)
        except asyncio.CancelledError:
            # The server's drain time is over. Before the status is out, `Problems` says so.
            if not started:
                raise
            await _send_data(send, _failure(problem(shutting_down(), scope)))
        await send({"type": "http.response.body"})

    async def _events(
        self, request: ChatRequest, caller: Caller
    ) -> AsyncGenerator[StreamEvent, None]:
        """Of either kind of skill. Raises what keeps it from beginning."""
        metadata = await self._metadata(request, caller)
        input_ = request.input(metadata)
        kind = metadata.skill_type if metadata else self._kind(request)
        if kind is SkillKind.FUNCTION:
            return _as_events(await self._skills.run(request.skill, input_, caller))
        return await self._skills.message_stream(request.skill, input_, caller)

    def _kind(self, request: ChatRequest) -> SkillKind | None:
        kinds = (info.kind for info in self._skills.list() if info.path == request.skill)
        return next(kinds, None)

    async def _metadata(self, request: ChatRequest, caller: Caller) -> SkillMetadata | None:
        try:
            return await self._skills.metadata(request.skill, caller)
        except SkillBug:
            return None  # its metadata is broken; that does not mean that it can't run
        except SkillNotFound as error:
            raise ModelNotFound(error.detail) from error


async def _as_events(output: bytes) -> AsyncGenerator[StreamEvent, None]:
    yield MessageBegin()
    yield MessageAppend(text_of(output))
    yield MessageEnd()


async def _collected(
    request: ChatRequest, events: AsyncGenerator[StreamEvent, None]
) -> dict[str, Any]:
    answer, reason = Answer(request.skill), "stop"
    room, deltas = Room(), []
    async for event in events:
        match event:
            case MessageBegin() | MessageAppend() | Reasoning():
                deltas.append(answer.delta(event))
                room.take("".join(deltas[-1].values()))
            case MessageEnd():
                reason = finish_reason(event.payload)
    return answer.whole(deltas, reason)


async def _send_chunks(
    request: ChatRequest, events: AsyncGenerator[StreamEvent, None], scope: Scope, send: Send
) -> None:
    """Each piece as it comes. A failure becomes the last one: the status is already sent."""
    answer, reason = Answer(request.skill), "stop"
    try:
        await _send_data(send, answer.chunk({"role": "assistant", "content": ""}))
        async for event in events:
            match event:
                case MessageBegin() | MessageAppend() | Reasoning():
                    if delta := answer.delta(event):
                        await _send_data(send, answer.chunk(delta))
                case MessageEnd():
                    reason = finish_reason(event.payload)
        await _send_data(send, answer.chunk({}, reason))
        await send(_part(b"data: [DONE]\n\n"))
    except Exception as error:
        await _send_data(send, _failure(problem(error, scope)))


def _failure(told: dict[str, Any]) -> dict[str, Any]:
    return {"error": ErrorBody.of(told)}


async def _send_failure(send: Send, response: Response) -> None:
    """The same answer as elsewhere, with another body."""
    described = (b"content-type", b"content-length")
    headers = [header for header in response.raw_headers if header[0] not in described]
    failure = _failure(msgspec.json.decode(response.body))
    await _send_json(send, response.status_code, failure, headers)


async def _send_data(send: Send, value: Any) -> None:
    await send(_part(b"data: %b\n\n" % msgspec.json.encode(value)))


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _send_json(
    send: Send, status: int, value: Any, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    headers = [(b"content-type", b"application/json"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(value)})
