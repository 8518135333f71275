"""Skills, cache, tools, health."""

from __future__ import annotations

import httpx
import pytest
from msgspec import Raw

from pharia_kernel.errors import CompileFailed
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    SkillInfo,
    SkillKind,
    SkillMetadata,
    SkillSettings,
    SkillStatus,
    SkillType,
    VersionState,
)
from tests.shell.support import MemorySkills

GREET = SkillInfo(
    path=SkillPath("dev", "greet"),
    status=SkillStatus.READY,
    kind=SkillKind.FUNCTION,
    wit_version="0.3.11",
    description="Greets a person.",
    digest="sha256:00",
    size=48,
    tag="stable",
    generation=2,
    state=VersionState.SERVING,
    settings=SkillSettings(max_runs=3, allowed_tools=("add",)),
    last_check=1760000000.5,
)
BROKEN = SkillInfo(
    path=SkillPath("dev", "broken"),
    status=SkillStatus.FAILED,
    error=CompileFailed("no").problem(),
)
CHAT = SkillInfo(path=SkillPath("dev", "chat"), status=SkillStatus.READY, type=SkillType.CHAT)


@pytest.mark.parametrize("path", ["/v1/skills", "/skills"])
async def test_list(client: httpx.AsyncClient, skills: MemorySkills, path: str) -> None:
    skills.infos = [BROKEN, CHAT, GREET]
    response = await client.get(path)
    assert response.headers["content-type"] == "application/json"
    assert response.json() == ["dev/broken", "dev/chat", "dev/greet"]


async def test_list_by_type(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.infos = [CHAT, GREET]
    assert (await client.get("/v1/skills?type=chat")).json() == ["dev/chat"]
    assert (await client.get("/v1/skills?type=programmable")).json() == ["dev/greet"]


@pytest.mark.parametrize("query", ["type=other", "type=", "detail=maybe"])
async def test_wrong_query_is_refused(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/v1/skills?{query}")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert query.partition("=")[0] in response.json()["detail"]


async def test_list_in_detail(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.infos = [BROKEN, GREET]
    broken, greet = (await client.get("/v1/skills?detail=true")).json()
    assert greet == {
        "path": "dev/greet",
        "status": "ready",
        "type": "programmable",
        "kind": "function",
        "wit_version": "0.3.11",
        "description": "Greets a person.",
        "digest": "sha256:00",
        "size": 48,
        "sandboxed": True,
        "updating_to": None,
        "error": None,
        "tag": "stable",
        "manifest_digest": None,
        "signed_by": None,
        "generation": 2,
        "state": "serving",
        "since": None,
        "settings": {
            "run_timeout": None,
            "memory_limit": None,
            "max_runs": 3,
            "allowed_tools": ["add"],
        },
        "last_check": 1760000000.5,
        "next_attempt": None,
    }
    assert broken["error"]["code"] == "compile_failed"


async def test_metadata(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.descriptions["greet"] = SkillMetadata(
        description=None,
        version="0.3",
        skill_type=SkillKind.FUNCTION,
        input_schema=Raw(b'{"type": "string"}'),
        output_schema=None,
    )
    response = await client.get(
        "/v1/skills/dev/greet/metadata", headers={"Authorization": "Bearer abc"}
    )
    assert response.json() == {
        "description": None,
        "version": "0.3",
        "skill_type": "function",
        "input_schema": {"type": "string"},
        "output_schema": None,
    }
    assert skills.calls[0][2].token == "abc"


async def test_metadata_of_no_skill(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/skills/dev/other/metadata")).status_code == 404
    response = await client.get("/v1/skills/Dev/greet/metadata")
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_namespace"


async def test_cache(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.in_cache = [SkillPath("dev", "my skill")]
    assert (await client.get("/cached_skills")).json() == ["dev/my skill"]
    removed = await client.delete("/cached_skills/dev/my%20skill")
    again = await client.delete("/cached_skills/dev/my%20skill")
    assert (removed.status_code, again.status_code) == (200, 200)
    assert removed.json() == "Skill removed from cache"
    assert again.json() == "Skill was not present in cache"
    assert (await client.get("/cached_skills")).json() == []


async def test_tools(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    add = {"name": "add", "description": "Add", "input_schema": {"type": "object"}}
    subtract = {**add, "name": "subtract"}
    skills.tools_of = {"dev": [subtract, add], "empty": []}
    assert (await client.get("/v1/tools/dev")).json() == [add, subtract]
    assert (await client.get("/v1/tools/empty")).json() == []


async def test_mcp_servers(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.servers_of = {"dev": ["http://b/mcp", "http://a/mcp"], "empty": []}
    assert (await client.get("/v1/mcp_servers/dev")).json() == ["http://a/mcp", "http://b/mcp"]
    assert (await client.get("/v1/mcp_servers/empty")).json() == []


@pytest.mark.parametrize("resource", ["tools", "mcp_servers"])
async def test_unknown_namespace(client: httpx.AsyncClient, resource: str) -> None:
    response = await client.get(f"/v1/{resource}/other")
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
    assert "`other`" in response.json()["detail"]
    assert (await client.get(f"/v1/{resource}/Other")).status_code == 400


async def test_health(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")
    assert response.text == "ok"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


async def test_ready(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.components = {"engines": {"ready": True, "alive": 2}, "skills": {"ready": True}}
    response = await client.get("/ready")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "components": skills.components}
    skills.components["skills"] = {"ready": False, "preparing": ["dev/greet"]}
    response = await client.get("/ready")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "components": skills.components}
