"""What people and programs read: landing page, OpenAPI document and its viewer, WIT texts.

All of it comes from the kernel itself, so that it works without internet access.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from swagger_ui_bundle import swagger_ui_path

from pharia_kernel import wit
from pharia_kernel.errors import NotFound
from pharia_kernel.shell import console
from pharia_kernel.shell.openapi import problem_answers, text_answer

_PAGES = files(__package__) / "pages"
_ASSETS = {
    "swagger-ui.css": Path(str(swagger_ui_path)) / "swagger-ui.css",
    "swagger-ui-bundle.js": Path(str(swagger_ui_path)) / "swagger-ui-bundle.js",
    "api-docs.js": Path(str(_PAGES)) / "api-docs.js",
    "icon.svg": Path(str(_PAGES)) / "icon.svg",
}
_ASSET_HEADERS = {"Cache-Control": "max-age=3600"}
# Nothing may be loaded from elsewhere. Swagger UI sets styles on elements and embeds its icons.
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "frame-ancestors 'none'"
    )
}

_WitVersion = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "example": "0.4"}),
    Query(description="A line such as `0.4` or a full version; the newest stable one if absent."),
]


def router(document: Callable[[], dict[str, Any]]) -> APIRouter:
    """``document`` makes the OpenAPI document; it is called once, when somebody asks for it."""
    routes = APIRouter(tags=["docs"])
    encoded = cache(lambda: msgspec.json.encode(document()))

    @routes.get("/", operation_id="landing_page", response_class=HTMLResponse)
    async def landing_page(request: Request) -> Response:
        """The console for browsers; for other clients, where to go from here."""
        if console.wanted(request):
            return console.page(request)
        answer = _page("index.html")
        answer.headers["Vary"] = "Accept"
        return answer

    @routes.get("/api-docs", operation_id="api_docs", response_class=HTMLResponse)
    async def api_docs() -> Response:
        """This documentation, to read and to try out."""
        return _page("api-docs.html")

    @routes.get("/api-docs/{asset}", include_in_schema=False)
    async def api_docs_asset(asset: str) -> Response:
        if asset not in _ASSETS:
            raise HTTPException(404)
        return FileResponse(_ASSETS[asset], headers=_ASSET_HEADERS)

    @routes.get(
        "/openapi.json",
        operation_id="openapi_document",
        response_class=Response,
        responses={
            200: {
                "description": "The document.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    )
    async def openapi_document() -> Response:
        """This documentation, for programs."""
        return Response(encoded(), media_type="application/json")

    @routes.get(
        "/skill.wit",
        operation_id="get_skill_wit",
        response_class=Response,
        responses={
            200: text_answer("The WIT text.", "text/plain", "package pharia:skill@0.4.0;\n"),
            **problem_answers(404),
        },
    )
    async def get_skill_wit(version: _WitVersion = None) -> Response:
        """The interface that skills are built for: WIT package `pharia:skill`."""
        try:
            return PlainTextResponse(wit.text(version or wit.newest_stable()))
        except wit.UnknownWitVersion as error:
            raise NotFound(str(error)) from None

    return routes


def _page(name: str) -> Response:
    return HTMLResponse((_PAGES / name).read_bytes(), headers=_PAGE_HEADERS)
