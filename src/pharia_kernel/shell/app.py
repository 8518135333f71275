"""The shell's ASGI application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pharia_kernel.csi.api import Csi
from pharia_kernel.shell import (
    cache,
    console,
    docs,
    document_paths,
    gateway_docs,
    health,
    namespaces,
    openapi,
    problems,
    runs_history,
    skills,
    tools,
)
from pharia_kernel.shell.auth import ApiToken, Authorizer, Guard
from pharia_kernel.shell.csi import CsiCalls
from pharia_kernel.shell.csi import docs as csi_docs
from pharia_kernel.shell.exchange import Observed
from pharia_kernel.shell.mcp.route import McpRoute
from pharia_kernel.shell.openai.routes import OpenAiRoutes
from pharia_kernel.shell.problems import Problems
from pharia_kernel.shell.runs import Runs
from pharia_kernel.shell.settings import ShellSettings
from pharia_kernel.skills.api import Skills

_COMPRESS_FROM = 1024
"""Bytes; smaller answers fit into one packet anyway."""
_COMPRESSION_LEVEL = 4
"""JSON hardly gets smaller above it, only slower."""


def create_app(
    *,
    skills: Skills,
    csi: Csi,
    auth: Authorizer,
    settings: ShellSettings,
    version: str,
    documents: Callable[[ApiToken], APIRouter] | None = None,
) -> ASGIApp:
    """Everything that the kernel serves on its main port. ``version`` is the kernel's own.

    ``documents`` makes the routes of the built-in document index, if there is one.
    """
    direct: list[_Direct] = [
        Runs(skills, settings.max_body_size),
        CsiCalls(csi, settings.max_body_size, settings.run_timeout),
        McpRoute(skills, settings, version),
        OpenAiRoutes(skills, settings.max_body_size),
    ]
    resources = _resources(skills, version, documents)
    app: ASGIApp = GZipMiddleware(
        Problems(_Routes(Guard(auth), direct, resources)),
        minimum_size=_COMPRESS_FROM,
        compresslevel=_COMPRESSION_LEVEL,
    )
    return Observed(_with_cors(app, settings) if settings.cors_allow_origins else app)


_Direct = Runs | CsiCalls | McpRoute | OpenAiRoutes


class _Routes:
    """Some routes directly, everything else through FastAPI; all of them behind the guard."""

    def __init__(self, guard: Guard, direct: Sequence[_Direct], resources: FastAPI) -> None:
        self._guard = guard
        self._direct = direct
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._resources(scope, receive, send)
            return
        if document_scope := document_paths.undecoded(scope):
            await self._guard.admit(document_scope, encoded=True)
            await self._resources(document_scope, receive, send)
            return
        if document_paths.disguised(scope):
            raise HTTPException(404)
        if b"%2f" in scope.get("raw_path", b"").lower():
            # Decoded it would pass for a separator, but no name contains one.
            raise HTTPException(404)
        await self._guard.admit(scope)
        for app in self._direct:
            if app.answers(scope["path"]):
                await app(scope, receive, send)
                return
        if scope["method"] == "HEAD":
            await self._resources({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self._resources(scope, receive, send)


def _resources(
    skills_layer: Skills,
    version: str,
    documents: Callable[[ApiToken], APIRouter] | None,
) -> FastAPI:
    app = FastAPI(
        title=openapi.TITLE,
        version=version,
        openapi_url=None,
        redirect_slashes=False,
        exception_handlers={
            HTTPException: problems.handle,
            RequestValidationError: problems.handle,
        },
        # Inside of Starlette's own handler of unexpected errors, which would answer in plain text.
        middleware=[Middleware(Problems)],
    )

    def document() -> dict[str, Any]:
        paths = csi_docs.paths() | gateway_docs.paths()
        return openapi.document(app, paths, csi_docs.schemas())

    token = ApiToken()
    app.include_router(skills.router(skills_layer, token))
    app.include_router(tools.router(skills_layer, token))
    app.include_router(namespaces.router(skills_layer, token))
    app.include_router(cache.router(skills_layer, token))
    app.include_router(health.router(skills_layer))
    app.include_router(runs_history.router(token))
    app.include_router(console.router())
    if documents:
        app.include_router(documents(token))
    app.include_router(docs.router(document))
    return app


def _with_cors(app: ASGIApp, settings: ShellSettings) -> ASGIApp:
    # Callers authenticate with a header of their own, so browsers need not send credentials.
    return CORSMiddleware(
        app,
        allow_origins=settings.cors_allow_origins,
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=["*"],
        expose_headers=["Preference-Applied", "Retry-After", "WWW-Authenticate", "traceparent"],
    )


def _without_body(send: Send) -> Send:
    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers
