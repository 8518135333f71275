"""``/v1/namespaces`` and what is beneath it."""

from __future__ import annotations

import httpx
import pytest
from msgspec import structs

from pharia_kernel.errors import NamespaceMisconfigured, SignatureRejected
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    NamespaceDetail,
    NamespaceState,
    SkillDetail,
    SkillSettings,
    SkillStatus,
    VersionRecord,
    VersionState,
)
from tests.shell.support import MemorySkills

SERVING = VersionRecord(
    digest="sha256:01",
    manifest_digest="sha256:11",
    tag="v1",
    generation=1,
    state=VersionState.SERVING,
    since=1760000009.0,
    found=1760000000.0,
    seconds={VersionState.PULLED: 1.5, VersionState.COMPILED: 7.0, VersionState.READY: 0.25},
    cached=False,
    signed_by="team.pub",
    attempts=1,
    failed_at=None,
    error=None,
)
REJECTED = structs.replace(
    SERVING,
    digest="sha256:02",
    state=VersionState.FAILED,
    seconds={},
    signed_by=None,
    attempts=3,
    failed_at=VersionState.VERIFIED,
    error=SignatureRejected("There is no signature.").problem(),
)
GREET = SkillDetail(
    path=SkillPath("dev", "greet"),
    status=SkillStatus.READY,
    digest="sha256:01",
    error=REJECTED.error,
    tag="v1",
    generation=2,
    state=VersionState.FAILED,
    settings=SkillSettings(),
    last_check=1760000010.0,
    next_attempt=1760000020.0,
    history=[REJECTED, SERVING],
)
DEV = NamespaceDetail(
    name="dev",
    state=NamespaceState.STALE,
    form="config-url",
    source="https://example.com/dev.toml",
    generation=4,
    last_attempt=1760000010.0,
    error=NamespaceMisconfigured("Line 3 is wrong.", line=3, column=1).problem(),
    skill_states={SkillStatus.PREPARING: 0, SkillStatus.READY: 1, SkillStatus.FAILED: 0},
    skills=[GREET],
    tools=[{"name": "add", "description": "Add", "input_schema": {}}],
    mcp_servers=["http://localhost/mcp"],
)


@pytest.fixture
def skills(skills: MemorySkills) -> MemorySkills:
    skills.in_namespaces = {"dev": DEV}
    return skills


async def test_list(client: httpx.AsyncClient) -> None:
    (dev,) = (await client.get("/v1/namespaces")).json()
    assert dev == {
        "name": "dev",
        "state": "stale",
        "form": "config-url",
        "source": "https://example.com/dev.toml",
        "generation": 4,
        "last_attempt": 1760000010.0,
        "last_success": None,
        "next_attempt": None,
        "error": DEV.error,
        "warnings": [],
        "skill_states": {"preparing": 0, "ready": 1, "failed": 0},
    }
    assert (dev["error"]["line"], dev["error"]["column"]) == (3, 1)


async def test_one_in_detail(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/namespaces/dev")
    dev = response.json()
    assert dev["state"] == "stale"
    assert dev["tools"] == DEV.tools
    assert dev["mcp_servers"] == ["http://localhost/mcp"]
    (greet,) = dev["skills"]
    assert greet["path"] == "dev/greet"
    rejected, serving = greet["history"]
    assert rejected["failed_at"] == "verified"
    assert rejected["error"]["code"] == "signature_rejected"
    assert serving["seconds"] == {"pulled": 1.5, "compiled": 7.0, "ready": 0.25}


async def test_refresh(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    response = await client.post("/v1/namespaces/dev/refresh", json={"ref": "refs/heads/main"})
    assert response.status_code == 202
    assert response.json() == "Namespace is being read again"
    assert skills.refreshed == ["dev"]


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("POST", "/refresh")])
async def test_unknown(client: httpx.AsyncClient, method: str, rest: str) -> None:
    response = await client.request(method, f"/v1/namespaces/other{rest}")
    assert response.status_code == 404
    assert "`other`" in response.json()["detail"]
    assert (await client.request(method, f"/v1/namespaces/Other{rest}")).status_code == 400
