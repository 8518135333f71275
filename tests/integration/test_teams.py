"""Teams deploy their skills themselves, and no request fails because of it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from pharia_kernel.config.authorization import hash_api_key
from tests.integration import teams_story as story
from tests.integration.teams import Site, Skill, bearer, new_site, stream, traffic
from tests.integration.teams_killed import DOWN, Killing
from tests.skills_layer.namespaces.support import hang
from tests.skills_layer.signatures.support import Signed, public_pem
from tests.support.kernel import ARTIFACTS, problem, until
from tests.support.oidc import AUDIENCE, OpenIdProvider, openid_provider

REDEPLOYMENTS = 50
OUTAGE = 3.0
"""Seconds that the registry stays down after everybody has noticed."""
SEED = int(os.environ.get("TEAMS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
A, B = story.A, story.B


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site() -> AsyncGenerator[Site, None]:
    """Two teams whose skills serve; every test leaves it in order."""
    async with new_site() as site:
        await story.settle(site)
        async with site.running():
            await story.all_serve(site)
            yield site


# --- under load ----------------------------------------------------------------------------------


async def test_redeployments(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of(A, B)) as requests:
        await story.redeploy(site, requests, REDEPLOYMENTS)


async def test_a_namespace_comes_and_goes(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of(A, B)) as requests:
        await story.namespace_comes_and_goes(site, requests)


async def test_a_server_of_descriptions_that_fails(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of(A, B)) as requests:
        await story.description_faults(site, requests)


async def test_a_registry_that_is_down(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of(A, B)) as requests:
        await story.be_without_registry(site, requests, OUTAGE)


async def test_a_registry_that_fails(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of(A, B)) as requests:
        await story.registry_faults(site, requests)


async def test_pulls_that_fail(site: Site) -> None:
    async with traffic(site.kernel, *site.skills_of(A, B)) as requests:
        await story.pull_faults(site, requests)
        await story.slow_pull(site, requests)
        await story.tag_moves_during_pull(site, requests)


# --- signatures ----------------------------------------------------------------------------------


def refused_reason(detail: Any) -> str:
    newest = detail["history"][0]
    if newest["state"] == "failed":  # otherwise it is being tried again
        assert newest["failed_at"] == "verified"
    return str(detail["error"]["detail"])


async def test_signatures(site: Site, tmp_path: Path) -> None:
    """What is not signed is refused while the signed version serves, and serves once it is."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    (tmp_path / "signed.pub").write_bytes(public_pem(key))
    team = await site.found("team-s", signature_keys=[str(tmp_path / "signed.pub")])
    skill = await team.create("sealed")

    def newest() -> Signed:
        return Signed(team.client, skill.repository, skill.manifests[-1])

    await newest().sign_bundle(key)
    site.configure()
    try:
        await story.is_known(site, skill)
        assert "signed.pub" in (await site.serves(skill))["signed_by"]
        async with traffic(site.kernel, skill) as requests:
            served = skill.digests[-1]
            await skill.push()
            await site.refresh(team.name)
            detail = await site.complains(skill, "signature_rejected")
            assert detail["digest"] == served
            assert "no signature" in refused_reason(detail)

            await newest().sign_simple(other)
            detail = await complains_of(site, skill, lambda text: "no signature" not in text)
            assert detail["digest"] == served

            await newest().sign_simple(key)
            assert "signed.pub" in (await site.serves(skill))["signed_by"]
            await requests.goes_on()
    finally:
        del site.teams[team.name]
        site.configure()


async def complains_of(site: Site, skill: Skill, condition: Callable[[str], bool]) -> Any:
    async def does() -> Any:
        detail = await site.detail(skill)
        assert detail["error"], "it serves what a stranger signed"
        return detail if condition(refused_reason(detail)) else None

    return await until(does, "another reason", seconds=60)


# --- kernels that are killed ---------------------------------------------------------------------


async def test_kernels_that_are_killed() -> None:
    """Whatever they were doing, the next one comes back to what it should serve."""
    print(f"TEAMS_SEED={SEED}")  # shown if the test fails
    async with new_site() as site:
        await story.settle(site)
        killing = Killing(site, random.Random(SEED))
        try:
            await killing.begin()
            for down in DOWN:
                await killing.kill(down)
            await killing.end()
        finally:
            site.kernel.kill()
            await site.kernel.close()


# --- starting ------------------------------------------------------------------------------------


async def test_starting_while_a_server_of_descriptions_hangs() -> None:
    async with new_site(namespace_fetch_timeout="10m") as site:
        await story.settle(site)
        one, other = site.teams[A], site.teams[B]
        one.descriptions.handler = hang
        kernel = site.start()
        try:
            await kernel.listening()
            assert (await kernel.client.get("/health")).text == "ok"
            await site.serves(other.skills["count"])
            answer = await kernel.client.get("/ready")
            if answer.status_code == 503:  # the deadline has passed on a very slow machine
                namespaces = answer.json()["components"]["namespaces"]
                assert namespaces["ready"] is False
                assert namespaces["states"] == {A: "unread", B: "ok"}
            waiting = asyncio.create_task(kernel.run(f"{A}/count"))
            await kernel.ready()  # although the server still hangs
            namespaces = (await kernel.components())["namespaces"]
            assert namespaces["states"] == {A: "unread", B: "ok"}
            assert (await kernel.client.get("/health")).text == "ok"
            assert problem(await waiting) == (503, "skill_not_ready")
            one.descriptions.handler = None
            await site.refresh(A)
            kernel.terminate()
            assert await kernel.exit() == 0
        finally:
            kernel.kill()
            await kernel.close()


async def test_starting_with_the_last_good_description() -> None:
    async with new_site(namespace_fetch_timeout="10m") as site:
        await story.settle(site)
        async with site.running():
            await story.all_serve(site)
        site.teams[A].descriptions.handler = hang
        async with site.running() as kernel:
            skill = site.teams[A].skills["count"]
            await site.enters(A, "stale", "namespace_unavailable", "since the start")
            await site.serves(skill)
            assert (await kernel.run(skill.path, {})).json() == 1
            states = (await kernel.components())["namespaces"]["states"]
            assert states == {A: "stale", B: "ok"}


# --- permissions ---------------------------------------------------------------------------------

KEYS = {name: f"pk_{name}{'y' * 40}" for name in ("a", "b", "ops", "carol")}


def key_table(name: str, permissions: list[str], namespaces: list[str]) -> dict[str, Any]:
    limits = {"namespaces": namespaces} if namespaces else {}
    return {"hash": hash_api_key(KEYS[name]), "permissions": permissions, **limits}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provider() -> AsyncGenerator[OpenIdProvider, None]:
    async with openid_provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(
    provider: OpenIdProvider, components: dict[str, Path]
) -> AsyncGenerator[Site, None]:
    """Two teams with keys, each with the real Python `greet`, a stream, and tools."""
    everything = ["run", "deploy", "csi"]
    greet = components["greet"].read_bytes()
    oidc = {"issuer": provider.issuer, "audience": AUDIENCE}
    async with new_site(artifacts=ARTIFACTS) as site:
        for name in (A, B):
            team = await site.found(name)
            team.tools = ["add"]
            await team.create("greet", lambda _: greet, marked=False)
            await team.create("tell", stream)
        site.token = KEYS["ops"]
        site.extra = {
            "api-keys.a": key_table("a", everything, [A]),
            "api-keys.b": key_table("b", everything, [B]),
            "api-keys.ops": key_table("ops", ["admin"], []),
            "oidc": oidc,
        }
        site.configure()
        async with site.running():
            await story.all_serve(site)
            yield site


class Caller:
    def __init__(self, site: Site, token: str) -> None:
        self.token = token
        self._client = site.kernel.client

    async def __call__(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self._client.request(method, path, json=body, headers=bearer(self.token))


@pytest.fixture(params=["key", "jwt"])
def team_a(request: pytest.FixtureRequest, guarded: Site, provider: OpenIdProvider) -> Caller:
    permissions = [f"{permission}:{A}" for permission in ("run", "deploy", "csi")]
    tokens = {"key": KEYS["a"], "jwt": provider.token(pharia_permissions=permissions)}
    return Caller(guarded, tokens[request.param])


def routes(team: str) -> list[tuple[str, str, Any]]:
    """Everything that concerns one namespace."""
    invocation = {"name": "add", "arguments": [{"name": n, "value": [49]} for n in "ab"]}
    return [
        ("POST", f"/v1/skills/{team}/greet/run", {"name": "Ada"}),
        ("POST", f"/v1/skills/{team}/tell/message-stream", {}),
        ("GET", f"/v1/skills/{team}/greet/metadata", None),
        ("GET", f"/v1/tools/{team}", None),
        ("GET", f"/v1/mcp_servers/{team}", None),
        ("GET", f"/v1/namespaces/{team}", None),
        ("POST", f"/v1/namespaces/{team}/refresh", None),
        ("DELETE", f"/cached_skills/{team}/greet", None),
        ("POST", "/csi/v2/list_tools", {"namespace": team}),
        ("POST", "/csi/v2/invoke_tool", {"namespace": team, "requests": [invocation]}),
    ]


async def test_a_team_may_everything_with_its_own(guarded: Site, team_a: Caller) -> None:
    for method, path, body in routes(A):
        answer = await team_a(method, path, body)
        assert answer.status_code in (200, 202), f"{method} {path}: {answer.text}"
    await story.all_serve(guarded)
    ran = await team_a("POST", f"/v1/skills/{A}/greet/run", {"name": "Ada"})
    assert ran.json() == "Hello Ada"


async def test_a_team_may_nothing_with_another_s(guarded: Site, team_a: Caller) -> None:
    before = await guarded.namespace(B)
    others, nobodys = routes(B), routes("team-x")
    for (method, path, body), (_, unknown, absent) in zip(others, nobodys, strict=True):
        refused = await team_a(method, path, body)
        assert problem(refused) == (403, "insufficient_scope"), f"{method} {path}"
        # Nor is it told whether there is such a namespace.
        ignorant = await team_a(method, unknown, absent)
        assert refused.text.replace(B, "team-x") == ignorant.text
    after = await guarded.namespace(B)
    assert generations(after) == generations(before), "refused evictions evict nothing"


def generations(namespace: Any) -> dict[str, int]:
    return {skill["path"]: skill["generation"] for skill in namespace["skills"]}


async def test_lists_have_what_is_the_team_s(guarded: Site, team_a: Caller) -> None:
    await story.all_serve(guarded)
    mine = {f"{A}/greet", f"{A}/tell"}
    assert set((await team_a("GET", "/v1/skills")).json()) == mine
    assert set((await team_a("GET", "/cached_skills")).json()) <= mine
    assert [n["name"] for n in (await team_a("GET", "/v1/namespaces")).json()] == [A]
    await _runs_are_its_own(guarded, team_a)
    exit_code, told = await guarded.status_command(token=team_a.token)
    assert exit_code == 0
    assert [entry["name"] for entry in told["namespaces"]] == [A]
    assert {entry["path"] for entry in told["skills"]} == mine
    assert await guarded.status_command(B, token=team_a.token) == (2, None)


async def _runs_are_its_own(guarded: Site, team_a: Caller) -> None:
    ops = Caller(guarded, KEYS["ops"])
    for team in (A, B):
        await ops("POST", f"/v1/skills/{team}/tell/message-stream", {})
    others = (await ops("GET", f"/v1/runs?skill={B}/tell")).json()
    assert {run["namespace"] for run in others} == {B}
    assert {run["namespace"] for run in (await team_a("GET", "/v1/runs")).json()} == {A}
    assert (await team_a("GET", f"/v1/runs?skill={B}/tell")).json() == []
    assert (await team_a("GET", f"/v1/runs/{others[0]['id']}")).status_code == 404


async def test_a_description_reaches_nothing_beyond_its_repository(guarded: Site) -> None:
    """A's own skills serve on, and the namespace tells what is wrong."""
    team = guarded.teams[A]
    base = guarded.teams[B].base
    for name in (f"../{base}/greet", f"/{base}/greet", "..", f"x/../../{base}/greet"):
        team.descriptions.text = f'skills = [{{ name = "{name}" }}]\n'
        await guarded.refresh(A)
        await guarded.enters(A, "stale", "namespace_misconfigured", "1")
        team.describe()
        await guarded.refresh(A)
        await guarded.enters(A, "ok")
    # A tag is no way around, either.
    team.descriptions.text = f'skills = [{{ name = "out", tag = "../../{base}/greet:latest" }}]\n'
    await guarded.refresh(A)

    async def refused() -> bool:
        skills = (await guarded.namespace(A))["skills"]
        return [skill["error"] and skill["error"]["code"] for skill in skills] == [
            "artifact_not_found"
        ]

    await until(refused, "the tag is refused", seconds=60)
    team.describe()
    await guarded.refresh(A)
    await story.all_serve(guarded)


async def test_keys_come_and_go_while_the_kernel_runs(guarded: Site) -> None:
    carol, b = Caller(guarded, KEYS["carol"]), Caller(guarded, KEYS["b"])
    path = f"/v1/skills/{B}/greet/run"

    async def status_is(status: int) -> None:
        async def is_so() -> bool:
            answer = await carol("POST", path, {"name": "Ada"})
            return answer.status_code == status

        await until(is_so, f"carol gets {status}", seconds=60)
        assert (await b("POST", path, {"name": "Ada"})).json() == "Hello Ada"

    await status_is(401)
    known = dict(guarded.extra)
    for namespaces, status in (([B], 200), ([A], 403)):
        guarded.extra = {**known, "api-keys.carol": key_table("carol", ["run"], namespaces)}
        guarded.configure()
        await status_is(status)
    guarded.extra = known
    guarded.configure()
    await status_is(401)
    log = guarded.kernel.log()
    assert not [key for key in KEYS.values() if key in log]
