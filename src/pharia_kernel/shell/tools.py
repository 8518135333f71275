"""What the skills of a namespace can call: its tools and MCP servers."""

from __future__ import annotations

from typing import TypeVar

from fastapi import APIRouter, Security
from starlette.responses import Response

from pharia_kernel.errors import NotFound
from pharia_kernel.shell.auth import ApiToken
from pharia_kernel.shell.openapi import (
    NamespaceParameter,
    json_answer,
    json_response,
    problem_answers,
)
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.paths import check_namespace

T = TypeVar("T")

_ADD = {
    "name": "add",
    "description": "Add two numbers",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
}


def router(skills: Skills, token: ApiToken) -> APIRouter:
    routes = APIRouter(tags=["tools"], dependencies=[Security(token)])

    @routes.get(
        "/v1/tools/{namespace}",
        operation_id="list_tools",
        response_class=Response,
        responses={
            200: json_answer("The tools, sorted by name.", "ToolList", [_ADD]),
            **problem_answers(400, 401, 403, 404),
        },
    )
    async def list_tools(namespace: NamespaceParameter) -> Response:
        """The tools that the skills of a namespace can call."""
        found = _known(skills.tools(check_namespace(namespace)), namespace)
        return json_response(sorted(found, key=lambda tool: str(tool["name"])))

    @routes.get(
        "/v1/mcp_servers/{namespace}",
        operation_id="list_mcp_servers",
        response_class=Response,
        responses={
            200: json_answer(
                "URLs of the servers, sorted.", "McpServerList", ["https://tools.example.com/mcp"]
            ),
            **problem_answers(400, 401, 403, 404),
        },
    )
    async def list_mcp_servers(namespace: NamespaceParameter) -> Response:
        """The MCP servers from which a namespace has its tools."""
        return json_response(
            sorted(_known(skills.mcp_servers(check_namespace(namespace)), namespace))
        )

    return routes


def _known(found: T | None, namespace: str) -> T:
    if found is None:
        raise NotFound(f"Namespace `{namespace}` not found.", namespace=namespace)
    return found
