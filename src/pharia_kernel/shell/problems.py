"""Every error of the shell becomes ``application/problem+json`` (RFC 9457) here."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pharia_kernel.errors import (
    BadRequest,
    InsufficientScope,
    InvalidToken,
    KernelError,
    MethodNotAllowed,
    NotFound,
    ShuttingDown,
)
from pharia_kernel.shell.exchange import note_error
from pharia_kernel.shell.trace import trace_id

MEDIA_TYPE = "application/problem+json"
_LONGEST_PATH = 200

_log = logging.getLogger(__name__)


class Problems:
    """ASGI middleware that answers for what the application raises."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                raise
            await problem_response(error, scope)(scope, receive, send)
        except asyncio.CancelledError:
            # Only the server cancels a request, when its drain time is over.
            if started:
                raise
            await problem_response(shutting_down(), scope)(scope, receive, send)


def problem(error: Exception, scope: Scope) -> dict[str, Any]:
    """The problem object of any exception. What is not meant for callers is logged instead."""
    return _object(_kernel_error(error, scope), scope)


def problem_response(error: Exception, scope: Scope) -> Response:
    kernel_error = _kernel_error(error, scope)
    return Response(
        msgspec.json.encode(_object(kernel_error, scope)),
        status_code=kernel_error.status,
        media_type=MEDIA_TYPE,
        headers=_headers(kernel_error, error),
    )


async def handle(request: Request, error: Exception) -> Response:
    """``problem_response`` as an exception handler of Starlette."""
    return problem_response(error, request.scope)


def shutting_down() -> ShuttingDown:
    return ShuttingDown(
        "The kernel is shutting down and its time for finishing requests is over. Try again."
    )


def _object(error: KernelError, scope: Scope) -> dict[str, Any]:
    note_error(scope, error)
    trace = trace_id(scope)
    return error.problem() | ({"trace_id": trace} if trace else {})


def _kernel_error(error: Exception, scope: Scope) -> KernelError:
    match error:
        case KernelError():
            return error
        case HTTPException(status_code=404):
            return NotFound(f"There is nothing at `{_path(scope)}`.")
        case HTTPException(status_code=405):
            return MethodNotAllowed(f"`{_path(scope)}` does not answer {scope['method']}.")
        case HTTPException(status_code=status, detail=detail) if status < 500:
            return BadRequest(detail)
        case RequestValidationError():
            return BadRequest(" ".join(_sentence(violation) for violation in error.errors()))
    _log.error("Unexpected error in %s %s", scope["method"], _path(scope), exc_info=error)
    return KernelError("The kernel made a mistake. Its operator finds the cause in the log.")


def _sentence(violation: dict[str, Any]) -> str:
    place, *names = violation["loc"]
    return f"Invalid {place} parameter `{'.'.join(map(str, names))}`: {violation['msg']}."


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}…"


def _challenge(error: KernelError) -> str | None:
    """What RFC 6750, section 3, has clients told about their token."""
    match error:
        case InvalidToken():
            return f'Bearer error="invalid_token", error_description="{_quotable(error.detail)}"'
        case InsufficientScope():
            scope = _quotable(error.extra["required"])
            return f'Bearer error="insufficient_scope", scope="{scope}"'
    return "Bearer" if error.status == 401 else None


def _quotable(text: str) -> str:
    """Only the characters that the parameters of a challenge may have."""
    return re.sub(r'[^\x20-\x7e]|["\\]', "'", text)


def _headers(error: KernelError, cause: Exception) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(cause, HTTPException):
        headers.update(cause.headers or {})
        if headers.get("Allow") == "GET":
            headers["Allow"] = "GET, HEAD"  # the shell answers HEAD wherever it answers GET
    if challenge := _challenge(error):
        headers["WWW-Authenticate"] = challenge
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    return headers
