"""Liveness and readiness."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from pharia_kernel.shell.auth import Asking, Principal
from pharia_kernel.shell.openapi import json_answer, text_answer
from pharia_kernel.skills.api import Skills

_NOT_CACHED = {"Cache-Control": "no-store"}
_NAMESPACES = {"ready": True, "states": {"dev": "ok", "playground": "stale"}}
_READY = {"engines": {"ready": True}, "namespaces": _NAMESPACES, "skills": {"ready": True}}
_NOT_READY = {**_READY, "skills": {"ready": False}}


def router(skills: Skills) -> APIRouter:
    routes = APIRouter(tags=["operations"])

    @routes.get(
        "/health",
        operation_id="health",
        response_class=Response,
        responses={200: text_answer("The kernel process is alive.", "text/plain", "ok")},
    )
    async def health() -> Response:
        """Is the process alive? It says nothing about whether skills can run: that is `/ready`."""
        return PlainTextResponse("ok", headers=_NOT_CACHED)

    @routes.get(
        "/ready",
        operation_id="ready",
        response_class=Response,
        responses={
            200: json_answer(
                "All components are ready.", "Readiness", {"ready": True, "components": _READY}
            ),
            503: json_answer(
                "A component is not ready.", "Readiness", {"ready": False, "components": _NOT_READY}
            ),
        },
    )
    async def ready(asking: Asking) -> Response:
        """Can the kernel serve? The state of each component."""
        components = skills.readiness()
        all_ready = all(component["ready"] for component in components.values())
        return Response(
            msgspec.json.encode({"ready": all_ready, "components": _shown(components, asking)}),
            status_code=200 if all_ready else 503,
            media_type="application/json",
            headers=_NOT_CACHED,
        )

    return routes


def _shown(components: dict[str, dict[str, Any]], asking: Principal) -> dict[str, dict[str, Any]]:
    """The details name namespaces, servers and errors, which are not for strangers."""
    if asking.is_admin:
        return components
    return {name: {"ready": component["ready"]} for name, component in components.items()}
