"""What callers get to see, over HTTP and through all of the shell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import msgspec
import pytest
from starlette.types import Scope

from pharia_kernel.config.authorization import Permission
from pharia_kernel.shell.auth import Authorizers, Guard, principal_of
from pharia_kernel.shell.auth.routes import ROUTES, Open
from pharia_kernel.shell.csi import access, legacy
from pharia_kernel.shell.csi.functions import VERSIONS, Function
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import SkillInfo, SkillKind, SkillMetadata, SkillStatus
from tests.shell.auth.support import KEY, OTHER_KEY, Iam, api_keys, bearer, settings
from tests.shell.csi.support import RecordingCsi
from tests.shell.support import (
    JSON,
    MemorySkills,
    Settings,
    app_of,
    echo,
    listening,
    post_raw,
    running,
    within,
)

A = bearer(KEY)
"""Of a caller with all permissions, in team-a only."""
KEYS = api_keys(
    a={"permissions": ["run", "deploy", "csi"], "namespaces": ["team-a"]},
    ops={"permissions": ["admin"]},
)
OPS = bearer(OTHER_KEY)
TEAMS = ("team-a", "team-b")


@pytest.fixture
def skills(skills: MemorySkills) -> MemorySkills:
    paths = [SkillPath(team, "greet") for team in TEAMS]
    skills.runs["greet"] = echo
    skills.infos = [SkillInfo(path=path, status=SkillStatus.READY) for path in paths]
    skills.in_cache = list(paths)
    skills.descriptions["greet"] = SkillMetadata(
        description=None,
        version=None,
        skill_type=SkillKind.FUNCTION,
        input_schema=None,
        output_schema=None,
    )
    for team in TEAMS:
        skills.tools_of[team] = []
        skills.servers_of[team] = []
    skills.components = {
        "engines": {"ready": True, "engines": 2},
        "namespaces": {"ready": True, "states": {"team-a": "ok", "team-b": "broken"}},
    }
    return skills


@pytest.fixture
def csi() -> RecordingCsi:
    return RecordingCsi()


@pytest.fixture
async def client(skills: MemorySkills, csi: RecordingCsi) -> AsyncIterator[httpx.AsyncClient]:
    auth = Authorizers(settings(api_keys=KEYS))
    async with running(app_of(skills, csi=csi, auth=auth)) as client:
        yield client


def _requests(namespace: str) -> list[tuple[str, str]]:
    """One for each guarded route."""
    return [
        (method, path.replace("{namespace}", namespace).replace("{", "").replace("}", ""))
        for (method, path), demand in ROUTES.items()
        if not isinstance(demand, Open)
    ]


def _problem(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


# --- who is let in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Basic dXNlcjpwdw=="}, {"Authorization": "Bearer"}]
)
async def test_guarded_routes_want_a_token(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for method, path in _requests("team-a"):
        response = await client.request(method, path, headers=headers)
        assert _problem(response) == (401, "unauthenticated"), path
        assert response.headers["www-authenticate"] == "Bearer"


async def test_guarded_routes_want_a_good_token(client: httpx.AsyncClient) -> None:
    for method, path in _requests("team-a"):
        response = await client.request(method, path, headers=bearer("pk_wrong"))
        assert _problem(response) == (401, "invalid_token"), path
        assert response.headers["www-authenticate"] == (
            'Bearer error="invalid_token", error_description="The API key is unknown."'
        )


async def test_guarded_routes_want_a_permission_in_the_namespace(
    client: httpx.AsyncClient, skills: MemorySkills, csi: RecordingCsi
) -> None:
    before = list(skills.in_cache)
    for namespace in ("team-b", "no-such-team"):
        for method, path in _requests(namespace):
            if namespace not in path:
                continue
            response = await client.request(method, path, headers=A)
            assert _problem(response) == (403, "insufficient_scope"), path
            required = response.json()["required"]
            assert required.endswith(f":{namespace}")
            assert response.headers["www-authenticate"] == (
                f'Bearer error="insufficient_scope", scope="{required}"'
            )
    assert (skills.calls, csi.calls, skills.in_cache) == ([], [], before)


async def test_open_routes_do_not_look_at_tokens(client: httpx.AsyncClient) -> None:
    for path in ("/", "/health", "/ready", "/openapi.json", "/api-docs", "/skill.wit"):
        for headers in ({}, bearer("pk_wrong"), {"Authorization": "Basic x"}):
            assert (await client.get(path, headers=headers)).status_code == 200


async def test_unknown_routes_are_nobody_s(client: httpx.AsyncClient) -> None:
    assert _problem(await client.get("/nothing")) == (404, "not_found")
    assert _problem(await client.put("/v1/skills")) == (405, "method_not_allowed")


async def test_refused_by_iam(skills: MemorySkills, iam: Iam) -> None:
    auth = Authorizers(settings(authorization_url=iam.url))
    async with running(app_of(skills, auth=auth)) as client:
        iam.says(403, "")
        response = await client.get("/v1/skills", headers=bearer("opaque"))
        assert _problem(response) == (403, "forbidden")
        assert "www-authenticate" not in response.headers
        accepted = await client.get("/v1/skills", headers=bearer("another"))
        assert accepted.json() == ["team-a/greet", "team-b/greet"]
    await auth.close()


async def test_challenges_are_well_formed(client: httpx.AsyncClient) -> None:
    response = await client.get('/v1/tools/te"am\\ü', headers=A)
    assert response.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope", scope="run:te\'am\'\'"'
    )


async def test_preflight_comes_before_authorization(skills: MemorySkills) -> None:
    origin = "https://app.example.com"
    auth = Authorizers(settings(api_keys=KEYS))
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    app = app_of(skills, auth=auth, settings=Settings(cors_allow_origins=[origin]))
    async with running(app) as client:
        answer = await client.options("/v1/skills/team-a/greet/run", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert "authorization" in answer.headers["access-control-allow-headers"]
        # What follows is not let in by that, but the page may read why.
        refused = await client.post("/v1/skills/team-a/greet/run", headers={"Origin": origin})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == origin


async def test_caller_is_checked_before_the_body_is_read(skills: MemorySkills) -> None:
    auth = Authorizers(settings(api_keys=KEYS))
    async with listening(app_of(skills, auth=auth)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/skills/dev/greet/run HTTP/1.1\r\nHost: kernel\r\nContent-Length: 9\r\n\r\n"
        )
        assert (await within(reader.readline())).startswith(b"HTTP/1.1 401 ")
        writer.close()


async def test_refused_request_keeps_its_connection(skills: MemorySkills) -> None:
    auth = Authorizers(settings(api_keys=KEYS))
    async with listening(app_of(skills, auth=auth)) as port:
        reader, writer = await post_raw(port, "/v1/skills/dev/greet/run", b"[1]")
        assert b"401" in await within(reader.readuntil(b"}"))
        writer.write(b"GET /health HTTP/1.1\r\nHost: kernel\r\n\r\n")
        assert (await within(reader.readuntil(b"\r\n\r\nok"))).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_encoded_names_are_those_that_they_stand_for(client: httpx.AsyncClient) -> None:
    for path in ("/v1/skills/team%2Db/greet/run", "/v1/skills/team-a%2F..%2Fteam-b/greet/run"):
        response = await client.post(path, json=1, headers=A)
        assert response.status_code in (403, 404)
    assert (await client.post("/v1/skills/team%2Da/greet/run", json=1, headers=A)).json() == 1


async def test_wildcards_are_for_settings_only(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/skills/*/greet/run", json=1, headers=A)
    assert _problem(response) == (403, "insufficient_scope")


# --- what they get --------------------------------------------------------------------------------


async def test_permitted_caller(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    assert (await client.post("/v1/skills/team-a/greet/run", json=1, headers=A)).json() == 1
    [(_, _, caller)] = skills.calls
    assert caller.token is None  # the key is for the kernel alone
    metadata = await client.get("/v1/skills/team-a/greet/metadata", headers=A)
    assert metadata.json()["skill_type"] == "function"
    assert (await client.get("/v1/tools/team-a", headers=A)).json() == []
    evicted = await client.delete("/cached_skills/team-a/greet", headers=A)
    assert evicted.json() == "Skill removed from cache"


@pytest.mark.parametrize(
    ("headers", "teams"), [(A, ["team-a"]), (OPS, ["team-a", "team-b"])], ids=["team", "ops"]
)
async def test_listings_show_what_the_caller_may_see(
    client: httpx.AsyncClient, headers: dict[str, str], teams: list[str]
) -> None:
    expected = [f"{team}/greet" for team in teams]
    for path in ("/v1/skills", "/skills", "/cached_skills"):
        assert (await client.get(path, headers=headers)).json() == expected
    detail = (await client.get("/v1/skills?detail=true", headers=headers)).json()
    assert [entry["path"] for entry in detail] == expected


@pytest.mark.parametrize("headers", [{}, A, bearer("pk_wrong")], ids=["none", "team", "wrong"])
async def test_readiness_tells_strangers_no_names(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = (await client.get("/ready", headers=headers)).json()
    ready = {"ready": True}
    assert answer == {"ready": True, "components": {"engines": ready, "namespaces": ready}}


async def test_readiness_tells_operators_all(
    client: httpx.AsyncClient, skills: MemorySkills
) -> None:
    answer = (await client.get("/ready", headers=OPS)).json()
    assert answer["components"] == skills.components


async def test_who_changes_something_is_logged(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="pharia_kernel.authorization"):
        await client.get("/cached_skills", headers=A)
        await client.delete("/cached_skills/team-a/greet", headers=A)
    logged = [r.getMessage() for r in caplog.records if r.name == "pharia_kernel.authorization"]
    assert logged == ["DELETE /cached_skills/team-a/greet by api-key a"]
    assert KEY not in caplog.text


async def test_tokens_reach_nobody_but_iam_s(skills: MemorySkills, iam: Iam) -> None:
    auth = Authorizers(settings(authorization_url=iam.url))
    async with running(app_of(skills, auth=auth)) as client:
        await client.post("/v1/skills/x/greet/run", json=1, headers=bearer("opaque"))
    assert skills.calls[0][2].token == "opaque"
    await auth.close()


# --- system calls ---------------------------------------------------------------------------------


def _document(namespace: str) -> dict[str, str]:
    return {"namespace": namespace, "collection": "c", "name": "n"}


def _search(namespace: str) -> dict[str, Any]:
    return {
        "query": "q",
        "index_path": {"namespace": namespace, "collection": "c", "index": "i"},
        "max_results": 1,
    }


NAMING: dict[str, Any] = {
    "invoke_tool": lambda n: {"namespace": n, "requests": []},
    "list_tools": lambda n: {"namespace": n},
    "documents": lambda n: [_document("team-a"), _document(n)],
    "document_metadata": lambda n: [_document(n)],
    "search": lambda n: [_search("team-a"), _search(n)],
}
"""Bodies of the functions that name namespaces."""
LEGACY: dict[tuple[str, str], Any] = {
    ("0.2", "documents"): lambda n: {"requests": [_document("team-a"), _document(n)]},
    ("0.2", "document_metadata"): lambda n: {"document_path": _document(n)},
    ("0.2", "search"): _search,
    ("0.3", "documents"): lambda n: {"requests": [_document(n)]},
    ("0.3", "document_metadata"): lambda n: {"requests": [_document(n)]},
    ("0.3", "search"): lambda n: {"requests": [_search("team-a"), _search(n)]},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMING)
async def test_calls_that_name_a_namespace(
    client: httpx.AsyncClient, csi: RecordingCsi, version: str, name: str
) -> None:
    path = f"/csi/{version}/{name}"
    response = await client.post(path, json=NAMING[name]("team-b"), headers=A)
    assert _problem(response) == (403, "insufficient_scope")
    assert response.json()["required"] == "csi:team-b"
    assert csi.calls == []
    assert (await client.post(path, json=NAMING[name]("team-b"), headers=OPS)).status_code == 200
    assert (await client.post(path, json=NAMING[name]("team-a"), headers=A)).status_code == 200


@pytest.mark.parametrize(("version", "name"), LEGACY)
async def test_legacy_calls_that_name_a_namespace(
    client: httpx.AsyncClient, csi: RecordingCsi, version: str, name: str
) -> None:
    def body(namespace: str) -> dict[str, Any]:
        return {"version": version, "function": name, **LEGACY[version, name](namespace)}

    response = await client.post("/csi", json=body("team-b"), headers=A)
    assert _problem(response) == (403, "insufficient_scope")
    assert csi.calls == []
    assert (await client.post("/csi", json=body("team-a"), headers=A)).status_code == 200


def test_no_function_that_names_a_namespace_is_forgotten() -> None:
    def naming(functions: Mapping[str, Function]) -> set[str]:
        return {
            name
            for name, function in functions.items()
            if '"namespace"' in json.dumps(msgspec.json.schema(function.body))
        }

    for functions in VERSIONS.values():
        assert naming(functions) == set(NAMING)
    for version, calls in legacy.FUNCTIONS.items():
        assert naming(calls) == {name for line, name in LEGACY if line == version}


def test_the_namespaces_of_no_request() -> None:
    assert access.named_namespaces([]) == set()
    assert access.named_namespaces(["text"]) == set()


async def test_calls_that_name_none_need_the_permission_somewhere(
    client: httpx.AsyncClient, csi: RecordingCsi
) -> None:
    response = await client.post(
        "/csi/v2/select_language", json=[{"text": "x", "languages": ["eng"]}], headers=A
    )
    assert response.status_code == 200
    assert csi.calls[-1][-1].token is None


async def test_without_the_permission_there_are_no_system_calls(skills: MemorySkills) -> None:
    keys = api_keys(a={"permissions": ["run", "deploy"], "namespaces": ["*"]})
    auth = Authorizers(settings(api_keys=keys))
    async with running(app_of(skills, auth=auth)) as client:
        response = await client.post("/csi/v2/chat", json=[], headers=JSON | A)
        assert response.json()["required"] == "csi"
        assert response.json()["detail"] == "The token does not grant `csi` in any namespace."


# --- the guard itself -----------------------------------------------------------------------------


async def test_a_route_behind_no_guard_has_no_caller() -> None:
    scope: Scope = {"type": "http", "method": "GET", "path": "/v1/skills", "headers": []}
    with pytest.raises(KeyError):
        principal_of(scope)
    await Guard(Authorizers(settings())).admit(scope)
    assert principal_of(scope).may("anywhere", Permission.RUN)
