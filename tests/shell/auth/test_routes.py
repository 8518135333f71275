from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from pharia_kernel.config.authorization import Permission
from pharia_kernel.shell import app, documents, runs
from pharia_kernel.shell.auth.routes import ROUTES, Open, RouteTable
from pharia_kernel.shell.csi import legacy
from pharia_kernel.shell.csi.functions import VERSIONS
from tests.shell.support import MemorySkills

DOCS = Path(__file__).parents[3] / "docs"


def _flat(routes: Iterable[Any]) -> Iterator[APIRoute]:
    for route in routes:
        if included := getattr(route, "original_router", None):
            yield from _flat(included.routes)
        else:
            assert isinstance(route, APIRoute)
            yield route


def _served() -> set[tuple[str, str]]:
    """Method and path of everything that the application routes."""
    index: Any = None
    served = app._resources(
        MemorySkills(),
        "1",
        lambda token: documents.router(documents.DocumentRoutes(index, token, 1)),
    )
    found = {
        (method, route.path) for route in _flat(served.routes) for method in route.methods or ()
    }
    assert len(found) > 20
    return (
        found
        | {
            ("POST", f"/v1/skills/{{namespace}}/{{name}}/{kind}")
            for kind in ("run", "message-stream")
        }
        | {("POST", f"/csi/{version}/{{function}}") for version in VERSIONS}
        | {("POST", legacy.PATH), ("POST", "/mcp/{namespace}")}
        | {("POST", "/openai/v1/chat/completions"), ("GET", "/openai/v1/models")}
    )


def test_every_route_is_in_the_table_and_nothing_else() -> None:
    assert set(ROUTES) == _served()


def test_the_hot_routes_are_those_that_runs_answers() -> None:
    for kind in ("run", "message-stream"):
        assert runs.Runs.answers(f"/v1/skills/dev/greet/{kind}")
    assert not runs.Runs.answers("/v1/skills/dev/greet/walk")


def test_only_these_are_open() -> None:
    unguarded = {path for (_, path), demand in ROUTES.items() if isinstance(demand, Open)}
    assert unguarded == {
        "/",
        "/api-docs",
        "/api-docs/{asset}",
        "/console/{asset}",
        "/health",
        "/openapi.json",
        "/ready",
        "/skill.wit",
    }


def test_admin_is_no_route_s_business() -> None:
    """It is implied; a route that asked for it by name would have no namespace to grant it in."""
    for demand in ROUTES.values():
        assert isinstance(demand, Open) or Permission.ADMIN not in demand


@pytest.mark.parametrize(
    ("method", "path", "demand", "namespace"),
    [
        ("POST", "/v1/skills/team-a/greet/run", (Permission.RUN,), "team-a"),
        ("HEAD", "/v1/tools/team-a", (Permission.RUN,), "team-a"),
        ("DELETE", "/cached_skills/team-a/greet", (Permission.DEPLOY,), "team-a"),
        ("GET", "/v1/skills", (Permission.RUN, Permission.DEPLOY), None),
        ("POST", "/csi/v2/chat", (Permission.CSI,), None),
        ("GET", "/", Open.TO_ALL, None),
        ("POST", "/v1/skills/team%2Da/greet/run", (Permission.RUN,), "team%2Da"),
        ("POST", "/v1/skills/*/greet/run", (Permission.RUN,), "*"),
    ],
)
def test_what_routes_demand(method: str, path: str, demand: Any, namespace: str | None) -> None:
    match = RouteTable().find(method, path, encoded=False)
    assert (match.demand, match.namespace) == (demand, namespace)


def test_names_in_the_paths_of_documents_are_encoded() -> None:
    match = RouteTable().find("GET", "/collections/team%2Da/b%2Fc/docs", encoded=True)
    assert match.namespace == "team-a"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing",
        "//",
        "/v1",
        "/v1/skills/",
        "/v1/skills/a/b/c/run",
        "/v1/skills//greet/run",
        "/health\n",
        "/v1/skills\n",
        "/V1/skills",
        "/admin",
    ],
)
def test_what_is_not_listed_is_not_there(path: str) -> None:
    with pytest.raises(HTTPException) as caught:
        RouteTable().find("GET", path, encoded=False)
    assert caught.value.status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/skills", "GET, HEAD"),
        ("OPTIONS", "/csi", "POST"),
        ("POST", "/collections/a/b/docs/c", "DELETE, GET, HEAD, PUT"),
        ("get", "/health", "GET, HEAD"),
    ],
)
def test_other_methods(method: str, path: str, allowed: str) -> None:
    with pytest.raises(HTTPException) as caught:
        RouteTable().find(method, path, encoded=False)
    assert caught.value.status_code == 405
    assert caught.value.headers == {"Allow": allowed}


def test_the_documentation_lists_every_guarded_route() -> None:
    text = (DOCS / "authorization.md").read_text()
    for (_, path), demand in ROUTES.items():
        if not isinstance(demand, Open):
            root = re.sub(r"\{.*", "", path)
            assert f"{root}{{" in text or f"`{root}" in text, path
