"""The console's files. What it shows, it gets from the same routes as other clients."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pharia_kernel.console import assets
from pharia_kernel.console.assets import Asset

_HEADERS = {
    # Scripts and styles are files of the kernel; nothing else is loaded, sent or embedded.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_ASKED_AGAIN = "no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"
"""The name of a file changes with its contents."""


def router() -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/console/{asset}")
    async def console_asset(asset: str, request: Request) -> Response:
        found = assets.assets().get(asset)
        if found is None:
            raise HTTPException(404)
        return _answer(found, request, _FOR_EVER)

    return routes


def wanted(request: Request) -> bool:
    """Whether a person asks, with a browser: only browsers name HTML in what they accept."""
    return "text/html" in request.headers.get("accept", "")


def page(request: Request) -> Response:
    return _answer(assets.page(), request, _ASKED_AGAIN)


def _answer(asset: Asset, request: Request, caching: str) -> Response:
    compressed = "gzip" in request.headers.get("accept-encoding", "").lower()
    tag = f'"{asset.tag}-gzip"' if compressed else f'"{asset.tag}"'
    headers = {**_HEADERS, "Cache-Control": caching, "ETag": tag, "Vary": "Accept, Accept-Encoding"}
    if tag in _tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    if compressed:
        headers["Content-Encoding"] = "gzip"
    content = asset.compressed if compressed else asset.content
    return Response(content, headers=headers, media_type=asset.media_type)


def _tags(if_none_match: str) -> set[str]:
    """Compared weakly (RFC 9110, section 13.1.2)."""
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
