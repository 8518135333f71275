"""How namespaces are doing, and how to have one read again."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Security
from msgspec import structs
from starlette.responses import Response

from pharia_kernel.errors import NamespaceMisconfigured, NotFound
from pharia_kernel.shell.auth import ApiToken, Asking, Permission
from pharia_kernel.shell.openapi import (
    NamespaceParameter,
    json_answer,
    json_response,
    problem_answers,
)
from pharia_kernel.shell.skills import detailed
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.paths import check_namespace
from pharia_kernel.skills.types import NamespaceDetail

_REFRESHING = "Namespace is being read again"
_DEV = {
    "name": "dev",
    "state": "stale",
    "form": "config-url",
    "source": "https://example.com/dev.toml",
    "generation": 3,
    "last_attempt": 1760000010.0,
    "last_success": 1760000000.0,
    "next_attempt": 1760000020.0,
    "error": NamespaceMisconfigured(
        "`https://example.com/dev.toml`: `tga` in line 7 is no key of a skill.", line=7, column=1
    ).problem(),
    "warnings": [],
    "skill_states": {"preparing": 0, "ready": 2, "failed": 0},
}
_DEV_IN_DETAIL = {**_DEV, "skills": [], "tools": [], "mcp_servers": []}


def router(skills: Skills, token: ApiToken) -> APIRouter:
    routes = APIRouter(tags=["operations"], dependencies=[Security(token)])

    @routes.get(
        "/v1/namespaces",
        operation_id="namespaces",
        response_class=Response,
        responses={
            200: json_answer("The namespaces, sorted by name.", "NamespaceList", [_DEV]),
            **problem_answers(401, 403),
        },
    )
    async def list_namespaces(asking: Asking) -> Response:
        """The configured namespaces: how their descriptions and their skills are doing."""
        return json_response(
            [
                summary
                for summary in skills.namespaces()
                if asking.may(summary.name, Permission.DEPLOY)
            ]
        )

    @routes.get(
        "/v1/namespaces/{namespace}",
        operation_id="namespace",
        response_class=Response,
        responses={
            200: json_answer("The namespace.", "NamespaceDetail", _DEV_IN_DETAIL),
            **problem_answers(400, 401, 403, 404),
        },
    )
    async def show_namespace(namespace: NamespaceParameter) -> Response:
        """A namespace with its skills, their last versions, and what they can call."""
        detail = skills.namespace(check_namespace(namespace))
        if detail is None:
            raise _unknown(namespace)
        return json_response(_json(detail))

    @routes.post(
        "/v1/namespaces/{namespace}/refresh",
        operation_id="refresh_namespace",
        status_code=202,
        response_class=Response,
        responses={
            202: json_answer("It will be.", "RefreshAnswer", _REFRESHING),
            **problem_answers(400, 401, 403, 404),
        },
    )
    async def refresh_namespace(namespace: NamespaceParameter) -> Response:
        """Have a namespace read again now, and the registries of its skills asked for new versions.
        A body is ignored, so this can be the target of a webhook.
        """
        if not skills.refresh(check_namespace(namespace)):
            raise _unknown(namespace)
        return json_response(_REFRESHING, status=202)

    return routes


def _json(detail: NamespaceDetail) -> dict[str, Any]:
    return {**structs.asdict(detail), "skills": [detailed(skill) for skill in detail.skills]}


def _unknown(namespace: str) -> NotFound:
    return NotFound(f"Namespace `{namespace}` not found.", namespace=namespace)
