"""A kernel with two teams: nobody gets at what is the other's."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pharia_kernel.config.authorization import hash_api_key
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, problem, temporary_home
from tests.support.oidc import AUDIENCE, OpenIdProvider, openid_provider, rsa_key
from tools import build_skills

TEAMS = ("team-a", "team-b")
KEYS = {name: f"pk_{name}{'x' * 40}" for name in ("a", "b", "runner", "ops")}
SDK_PATIENCE = 120.0
"""Seconds; its imports alone take some on a busy machine."""

SDK_CLIENT = """
import json
import pharia_skill as sdk
from pharia_skill.testing import DevCsi

own, other = DevCsi(namespace="team-a"), DevCsi(namespace="team-b")

def failure(call):
    try:
        call()
    except Exception as error:
        return str(error)
    raise AssertionError("the call did not fail")

print(json.dumps({
    "tools": [tool.name for tool in own.list_tools()],
    "sum": own.invoke_tool("add", a=1, b=2).text(),
    "language": own.select_language("Ein Apfel am Tag", [sdk.Language("eng"), sdk.Language("deu")]),
    "others_tools": failure(other.list_tools),
    "others_sum": failure(lambda: other.invoke_tool("add", a=1, b=2)),
}))
"""


def _key_settings() -> dict[str, str]:
    scopes = {
        "a": ("run,deploy,csi", "team-a"),
        "b": ("run,deploy,csi", "team-b"),
        "runner": ("run", "team-a"),
        "ops": ("admin", ""),
    }
    settings = {}
    for name, (permissions, namespaces) in scopes.items():
        settings[f"api_keys__{name}__hash"] = hash_api_key(KEYS[name])
        settings[f"api_keys__{name}__permissions"] = permissions
        settings[f"api_keys__{name}__namespaces"] = namespaces
    return {name: value for name, value in settings.items() if value}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provider() -> AsyncGenerator[OpenIdProvider, None]:
    async with openid_provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(
    components: dict[str, Path], provider: OpenIdProvider
) -> AsyncGenerator[KernelProcess, None]:
    namespaces: dict[str, Any] = dict.fromkeys(TEAMS, NATIVE_TOOLS)
    oidc = {"oidc__issuer": provider.issuer, "oidc__audience": AUDIENCE}
    options = {"engines": 1, **_key_settings(), **oidc}
    with temporary_home(namespaces=namespaces, **options) as home:
        for team in TEAMS:
            home.deploy_all({"greet": components["greet"]}, team)
        async with home.running() as kernel:
            yield kernel


class Client:
    """Asks with one token."""

    def __init__(self, kernel: KernelProcess, token: str | None) -> None:
        self._kernel = kernel
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def __call__(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self._kernel.client.request(method, path, json=body, headers=self._headers)

    async def get(self, path: str) -> Any:
        response = await self("GET", path)
        assert response.status_code == 200, response.text
        return response.json()


OTHERS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/skills/{team}/greet/run", {"name": "Ada"}),
    ("POST", "/v1/skills/{team}/greet/message-stream", {"name": "Ada"}),
    ("GET", "/v1/skills/{team}/greet/metadata", None),
    ("GET", "/v1/tools/{team}", None),
    ("GET", "/v1/mcp_servers/{team}", None),
    ("GET", "/v1/namespaces/{team}", None),
    ("POST", "/v1/namespaces/{team}/refresh", None),
    ("DELETE", "/cached_skills/{team}/greet", None),
    ("POST", "/csi/v2/list_tools", {"namespace": "{team}"}),
    ("POST", "/csi/v2/invoke_tool", {"namespace": "{team}", "requests": []}),
    ("POST", "/csi/v1/list_tools", {"namespace": "{team}"}),
]


def _for(team: str, value: Any) -> Any:
    return json.loads(json.dumps(value).replace("{team}", team))


@pytest.mark.parametrize(("method", "path", "body"), OTHERS)
async def test_a_team_gets_at_nothing_of_another(
    guarded: KernelProcess, method: str, path: str, body: Any
) -> None:
    a = Client(guarded, KEYS["a"])
    refused = await a(method, _for("team-b", path), _for("team-b", body))
    unknown = await a(method, _for("nobody", path), _for("nobody", body))
    assert problem(refused) == problem(unknown) == (403, "insufficient_scope")
    assert refused.text.replace("team-b", "nobody") == unknown.text  # not even that it is there
    own = await a(method, _for("team-a", path), _for("team-a", body))
    assert own.status_code in (200, 202, 409), own.text  # 409: it is no message stream


async def test_listings_are_each_team_s_own(guarded: KernelProcess) -> None:
    for name, teams in (("a", ["team-a"]), ("b", ["team-b"]), ("ops", ["team-a", "team-b"])):
        client = Client(guarded, KEYS[name])
        skills = [f"{team}/greet" for team in teams]
        assert await client.get("/v1/skills") == skills
        assert [skill["path"] for skill in await client.get("/v1/skills?detail=true")] == skills
        assert [entry["name"] for entry in await client.get("/v1/namespaces")] == teams
        assert set(await client.get("/cached_skills")) <= set(skills)


async def test_each_permission_is_needed(guarded: KernelProcess) -> None:
    runner = Client(guarded, KEYS["runner"])
    ran = await runner("POST", "/v1/skills/team-a/greet/run", {"name": "Ada"})
    assert ran.json() == "Hello Ada"
    for method, path, body, required in (
        ("DELETE", "/cached_skills/team-a/greet", None, "deploy:team-a"),
        ("GET", "/v1/namespaces", None, "deploy"),
        ("POST", "/v1/namespaces/team-a/refresh", None, "deploy:team-a"),
        ("POST", "/csi/v2/list_tools", {"namespace": "team-a"}, "csi"),
    ):
        refused = await runner(method, path, body)
        assert problem(refused) == (403, "insufficient_scope")
        assert refused.json()["required"] == required


async def test_operators_may_everything(guarded: KernelProcess) -> None:
    ops = Client(guarded, KEYS["ops"])
    for team in TEAMS:
        ran = await ops("POST", f"/v1/skills/{team}/greet/run", {"name": "Ada"})
        assert ran.json() == "Hello Ada"
    assert "engines" in (await ops.get("/ready"))["components"]["engines"]


@pytest.mark.parametrize("token", [None, "opaque", "pk_unknown"])
async def test_strangers_are_told_nothing(guarded: KernelProcess, token: str | None) -> None:
    stranger = Client(guarded, token)
    for path in ("/v1/skills", "/v1/namespaces", "/cached_skills", "/v1/tools/team-a"):
        assert (await stranger("GET", path)).status_code == 401
    assert (await stranger("GET", "/health")).text == "ok"
    ready = await stranger("GET", "/ready")
    assert "team-" not in ready.text
    assert all(part == {"ready": True} for part in ready.json()["components"].values())


async def test_tokens_of_the_openid_provider(
    guarded: KernelProcess, provider: OpenIdProvider
) -> None:
    ada = Client(guarded, provider.token(pharia_permissions=["run:team-a"]))
    assert await ada.get("/v1/skills") == ["team-a/greet"]
    ran = await ada("POST", "/v1/skills/team-a/greet/run", {"name": "Ada"})
    assert ran.json() == "Hello Ada"
    other = await ada("POST", "/v1/skills/team-b/greet/run", {"name": "Ada"})
    assert problem(other) == (403, "insufficient_scope")
    for token in (
        provider.token(exp=1),
        provider.token(aud="another"),
        provider.token(key=rsa_key("attacker"), header={"kid": "first"}),
    ):
        refused = await Client(guarded, token)("GET", "/v1/skills")
        assert problem(refused) == (401, "invalid_token")
        assert token not in guarded.log()


async def test_the_published_sdk_with_a_key(guarded: KernelProcess, tmp_path: Path) -> None:
    toolchain = build_skills.prepare("pharia-skill")
    assert isinstance(toolchain, build_skills.Pinned)
    process = await asyncio.create_subprocess_exec(
        toolchain.environment / "bin" / "python",
        "-c",
        SDK_CLIENT,
        cwd=tmp_path,  # the SDK reads a `.env` file in the working directory
        env={
            "PATH": os.environ["PATH"],
            "PHARIA_KERNEL_ADDRESS": guarded.url,
            "PHARIA_AI_TOKEN": KEYS["a"],
            "OTEL_SDK_DISABLED": "true",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), SDK_PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    answers = json.loads(out)
    for name in ("others_tools", "others_sum"):
        assert "403" in answers.pop(name)
    assert answers == {
        "tools": ["add", "saboteur", "subtract"],
        "sum": "3",
        "language": "deu",
    }


async def test_keys_are_not_in_the_log(guarded: KernelProcess) -> None:
    await Client(guarded, KEYS["a"])("DELETE", "/cached_skills/team-a/greet")
    log = guarded.log()
    assert "DELETE /cached_skills/team-a/greet by api-key a" in log
    assert not [key for key in KEYS.values() if key in log]


async def test_an_open_kernel_warns(guarded: KernelProcess) -> None:
    assert not [message for message in guarded.messages() if "ANYBODY" in message]
    for address, warns in (("0.0.0.0:0", True), ("127.0.0.1:0", False)):
        with temporary_home(engines=1, kernel_address=address) as home:
            async with home.running() as kernel:
                found = [message for message in kernel.messages() if "ANYBODY" in message]
                assert bool(found) == warns
