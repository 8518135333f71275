"""What happens to teams: each chapter changes or breaks something, tells how the kernel has to
show it, and leaves everything in order.

Chapters take the traffic that goes on meanwhile, and the size of what they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.integration.teams import Site, Skill, Traffic, all_of, stream
from tests.skills_layer.namespaces.support import hang as never_answer
from tests.support.kernel import problem, until
from tests.support.registry_proxy import (
    Fault,
    Forward,
    body,
    cut_short,
    first,
    hang,
    in_pieces,
    reset,
    status,
)

A, B, C = "team-a", "team-b", "team-c"
"""A reaches the registry directly, B through the proxy; C comes and goes."""
HISTORY = 10


async def settle(site: Site) -> None:
    """Two teams, each with a function and a stream, in the configuration."""
    for name in (A, B):
        team = await site.found(name, behind_proxy=name == B)
        await team.create("count")
        await team.create("tell", stream)
    site.configure()


async def all_serve(site: Site) -> None:
    await all_of(*(site.serves(skill) for skill in site.skills))


async def is_known(site: Site, skill: Skill) -> None:
    """Wait until the skill's namespace is in effect."""

    async def is_listed() -> bool:
        return skill.team.name in {entry["name"] for entry in await site.get("/v1/namespaces")}

    await until(is_listed, f"{skill.team.name} is there")


# --- deployments ---------------------------------------------------------------------------------


async def redeploy(site: Site, requests: Traffic, count: int) -> None:
    """One after the other, by pushing a tag; each has to be served before the next."""
    skills = [site.teams[A].skills["count"], site.teams[B].skills["tell"]]
    pushed: dict[str, list[str]] = {skill.path: [] for skill in skills}
    for number in range(count):
        skill = skills[number % len(skills)]
        detail = await site.deploy(skill)
        assert detail["status"] == "ready"
        assert detail["manifest_digest"] == skill.manifests[-1]
        pushed[skill.path].append(detail["digest"])
    await requests.goes_on(*skills)
    for skill in skills:
        await _check_record(site, skill, pushed[skill.path])


async def _check_record(site: Site, skill: Skill, pushed: list[str]) -> None:
    """Status and log tell the same story."""
    detail = await site.detail(skill)
    shown = [(record["digest"], record["state"]) for record in detail["history"]]
    expected = [(digest, "retired") for digest in skill.digests[-HISTORY:]]
    expected[-1] = (skill.digests[-1], "serving")
    assert shown[: len(pushed)] == expected[::-1][: len(pushed)]
    served = [event["digest"] for event in site.events("Skill version serves", skill=skill.path)]
    assert served[-len(pushed) :] == pushed
    retired = site.events("Skill version is retired", skill=skill.path)
    assert [event["digest"] for event in retired][-len(pushed) + 1 :] == pushed[:-1]


# --- a namespace comes and goes ------------------------------------------------------------------


async def namespace_comes_and_goes(site: Site, requests: Traffic) -> None:
    generation = (await site.namespace(A))["generation"]
    team = site.teams.get(C) or await site.found(C)
    skill = team.skills.get("count") or await team.create("count")
    site.configure(A, B, C)
    await _is_added(site, skill)
    await requests.flow(skill)
    await _description_breaks(site, skill)
    await _configuration_breaks(site)
    await _configuration_changes(site, skill)
    await requests.goes_on(skill)
    await requests.ebb(skill.path)
    site.configure(A, B)
    await _is_removed(site, skill)
    assert (await site.namespace(A))["generation"] == generation, "the others are not disturbed"


async def _is_added(site: Site, skill: Skill) -> None:
    await is_known(site, skill)
    await site.serves(skill)
    assert (await site.enters(C, "ok"))["error"] is None


async def _description_breaks(site: Site, skill: Skill) -> None:
    team = skill.team
    team.descriptions.text = 'skills = [{ name = "count" }]\nnative-tools = [\n'
    await site.refresh(C)
    stale = await site.enters(C, "stale", "namespace_misconfigured")
    assert stale["error"]["line"] >= 2
    assert site.events("Namespace team-c is stale", state="stale")
    # What serves can still be deployed.
    await site.deploy(skill)
    further = await team.create(f"further-{len(team.skills)}")
    await site.refresh(C)
    await site.serves(further)
    assert (await site.namespace(C))["state"] == "ok"
    assert site.events("Namespace team-c is in order again")


async def _configuration_breaks(site: Site) -> None:
    good = (site.home.folder / "config.toml").read_text()
    site.write_config(good + "\n[namespaces.team-d]\nno-such-key = 1\n")
    errors = await _configuration(site, lambda health: bool(health["errors"]))
    assert "team-d" in str(errors)
    site.write_config(good)
    await _configuration(site, lambda health: not health["errors"])


async def _configuration(site: Site, condition: Callable[[Any], bool]) -> Any:
    """What ``/ready`` says of it, once that meets the condition; the kernel stays ready."""

    async def met() -> Any:
        answer = await site.kernel.client.get("/ready")
        assert answer.status_code == 200, answer.text
        health = answer.json()["components"]["configuration"]
        return health if condition(health) else None

    return await until(met, "the configuration was looked at")


async def _configuration_changes(site: Site, skill: Skill) -> None:
    """Another registry host for what serves: the old version serves until the new one is ready."""
    team = skill.team
    before = (await site.detail(skill))["generation"]
    through_proxy = team.settings["registry"] == site.proxy.host
    team.settings["registry"] = site.registry.host if through_proxy else site.proxy.host
    site.configure(A, B, C)

    async def is_followed_anew() -> bool:
        return bool((await site.detail(skill))["generation"] > before)

    await until(is_followed_anew, "the skill is configured anew")
    await site.deploy(skill)


async def _is_removed(site: Site, skill: Skill) -> None:
    async def is_unknown() -> bool:
        return (await site.kernel.client.get(f"/v1/namespaces/{C}")).status_code == 404

    await until(is_unknown, "the namespace is gone")
    assert problem(await site.kernel.run(skill.path)) == (404, "skill_not_found")
    assert site.events("Skill is removed", skill=skill.path)
    listed = await site.get("/v1/skills")
    assert not [path for path in listed if path.startswith(f"{C}/")]


# --- the server of descriptions ------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answering(code: int, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=code, headers=headers)

    return handler


async def truncate(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'skills = [{ name = "coun')
    assert request.transport
    request.transport.abort()
    return response


async def log_in(_: web.Request) -> web.Response:
    return web.Response(text="<html>Who are you?</html>", content_type="text/html")


DESCRIPTION_FAULTS: dict[str, tuple[Handler, str, str]] = {
    "401": (answering(401), "namespace_misconfigured", "401"),
    "404": (answering(404), "namespace_misconfigured", "404"),
    "429": (answering(429, **{"Retry-After": "60"}), "namespace_unavailable", "429"),
    "500": (answering(500), "namespace_unavailable", "500"),
    "truncated": (truncate, "namespace_unavailable", ""),
    "hangs": (never_answer, "namespace_unavailable", "did not arrive"),
    "login": (log_in, "namespace_misconfigured", "web page"),
}
"""Handler, code of the error, and what it has to say."""


async def description_faults(site: Site, requests: Traffic) -> None:
    """The last good description stays in effect, and skills can be deployed all the time."""
    team = site.teams[A]
    skill = team.skills["count"]
    for name, (handler, code, told) in DESCRIPTION_FAULTS.items():
        generation = (await site.namespace(A))["generation"]
        team.descriptions.handler = handler
        await site.refresh(A)
        stale = await site.enters(A, "stale", code, told)
        assert stale["generation"] == generation, name
        assert {entry["path"] for entry in stale["skills"]} == {
            skill.path for skill in team.skills.values()
        }
        team.descriptions.handler = None
        await site.refresh(A)
        assert (await site.enters(A, "ok"))["generation"] == generation, name
    await team.descriptions.stop()
    await site.refresh(A)
    await site.enters(A, "stale", "namespace_unavailable")
    await site.deploy(skill)
    await requests.goes_on(skill)
    exit_code, told_by_command = await site.status_command()
    assert exit_code == 1
    entries = {entry["name"]: entry["state"] for entry in told_by_command["namespaces"]}
    assert (entries[A], entries[B]) == ("stale", "ok")
    await team.descriptions.start()
    await site.refresh(A)
    await site.enters(A, "ok")
    assert (await site.status_command(A))[0] == 0


# --- the registry --------------------------------------------------------------------------------


async def be_without_registry(site: Site, requests: Traffic, seconds: float) -> None:
    """The registry's process is killed, and comes back after a while."""
    skills = site.skills_of(A, B)
    site.registry.kill()
    for team in (A, B):
        await site.refresh(team)
    await all_of(*(site.complains(skill, "registry_unavailable") for skill in skills))
    exit_code, told = await site.status_command(A)
    assert exit_code == 1
    assert {entry["status"] for entry in told["skills"]} == {"ready"}
    await requests.goes_on(*skills, answers=max(4, int(seconds * 10)))
    site.registry.start()
    await all_of(*(site.recovers(skill) for skill in skills))
    await all_of(*(site.deploy(skill) for skill in skills))
    assert site.events("Registry cannot be reached (the old version keeps serving)")


REGISTRY_FAULTS: dict[str, tuple[Fault, str]] = {
    "refuses": (status(401, "UNAUTHORIZED"), "registry_unauthorized"),
    "overloaded": (status(429, "TOOMANYREQUESTS"), "registry_unavailable"),
    "fails": (status(500), "registry_unavailable"),
    "forgets": (status(404, "MANIFEST_UNKNOWN"), "artifact_not_found"),
    "resets": (reset(), "registry_unavailable"),
    "hangs": (hang(), "registry_unavailable"),
}
"""What becomes of every question for a tag, and the code of the error."""


async def registry_faults(site: Site, requests: Traffic) -> None:
    skill = site.teams[B].skills["count"]
    for fault, code in REGISTRY_FAULTS.values():
        site.proxy.on("HEAD", f"{skill.repository}/manifests/", fault)
        await site.refresh(B)
        await site.complains(skill, code)
        site.proxy.heal()
        await site.recovers(skill)
    await requests.goes_on(skill)


PULL_FAULTS: dict[str, tuple[Fault, str]] = {
    "wrong-bytes": (body(lambda content: b"x" * len(content)), "bad_registry_answer"),
    "too-short": (body(lambda content: content[:-1]), "bad_registry_answer"),
    "breaks": (cut_short(100), "registry_unavailable"),
    "falls-silent": (cut_short(100, then_hang=True), "registry_unavailable"),
}
"""What becomes of the component's bytes."""


async def pull_faults(site: Site, requests: Traffic) -> None:
    """The version that can't be pulled is shown as failed, and the old one serves."""
    skill = site.teams[B].skills["count"]
    for fault, code in PULL_FAULTS.values():
        old = skill.digests[-1]
        site.proxy.on("GET", f"{skill.repository}/blobs/", fault)
        new = await skill.push()
        await site.refresh(B)
        detail = await site.complains(skill, code)
        assert detail["digest"] == old
        newest = detail["history"][0]
        assert (newest["digest"], newest["state"]) == (new, "failed")
        assert newest["failed_at"] == "pulled"
        site.proxy.heal()
        await site.recovers(skill)
    await requests.goes_on(skill)


async def slow_pull(site: Site, requests: Traffic) -> None:
    """The old version serves all the while, and the status tells what is coming."""
    skill = site.teams[B].skills["tell"]
    old = skill.digests[-1]
    site.proxy.on("GET", f"{skill.repository}/blobs/", in_pieces(100, 0.1))
    new = await skill.push()
    await site.refresh(B)

    async def is_coming() -> bool:
        found = await site.detail(skill)
        return (found["digest"], found["updating_to"]) == (old, new)

    await until(is_coming, "the new version is being pulled")
    await requests.goes_on(skill)
    await site.serves(skill)
    site.proxy.heal()


async def tag_moves_during_pull(site: Site, requests: Traffic) -> None:
    """What serves in the end is what the tag names in the end."""
    skill = site.teams[B].skills["count"]
    before = skill.digests[-1]
    site.proxy.on("GET", f"{skill.repository}/blobs/", first(skill.push), times=1)
    site.proxy.on("GET", f"{skill.repository}/blobs/", _after(site, B), times=1)
    await skill.push()
    await site.refresh(B)

    async def moved() -> bool:
        return skill.digests[-2] != before

    await until(moved, "the tag was moved in the middle of a pull")
    await site.serves(skill)
    site.proxy.heal()
    await requests.goes_on(skill)


def _after(site: Site, team: str) -> Fault:
    """The proper answer, after the kernel was told to look again."""

    async def fault(request: web.Request, forward: Forward) -> web.StreamResponse:
        await asyncio.wait_for(site.refresh(team), 30)
        return (await forward()).response()

    return fault


Chapter = Callable[[Site, Traffic], Awaitable[None]]


def chapters(redeployments: int, outage: int) -> list[Chapter]:
    """All of them, in a size for a campaign that repeats them; the outage in seconds."""

    async def deploying(site: Site, requests: Traffic) -> None:
        await redeploy(site, requests, redeployments)

    async def without_registry(site: Site, requests: Traffic) -> None:
        await be_without_registry(site, requests, outage)

    return [
        deploying,
        without_registry,
        namespace_comes_and_goes,
        description_faults,
        registry_faults,
        pull_faults,
        slow_pull,
        tag_moves_during_pull,
    ]
