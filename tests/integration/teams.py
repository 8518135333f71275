"""Teams that deploy their skills themselves: a kernel, an OCI registry, descriptions, and traffic.

Each version of a skill answers with its number, so that every answer tells which one ran. All
parts are real; faults come from a proxy before the registry and from the servers of descriptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import wasmtime

from benchmarks.components import variant
from pharia_kernel.oci.client import OciClient
from tests.skills import hostile
from tests.skills_layer.namespaces.support import DescriptionServer, description_server
from tests.support.kernel import (
    COMMAND,
    KernelHome,
    KernelProcess,
    temporary_home,
    until,
)
from tests.support.registry import (
    RegistryProcess,
    push_component,
    running_registry,
    sha256,
    unique,
)
from tests.support.registry_proxy import RegistryProxy, running_proxy

PATIENCE = 90.0
"""Seconds for a deployment: much happens besides."""
INTERVAL = "500ms"
_PACE = 0.05
"""Seconds between the requests of one connection: traffic, not a benchmark."""

Json = Any


# --- components ----------------------------------------------------------------------------------


def function(answer: str) -> bytes:
    """A component whose function always returns this JSON."""
    text = answer.encode()
    run = f"(call $ok (i32.const {hostile.TEXT}) (i32.const {len(text)}))"
    return bytes(wasmtime.wat2wasm(hostile.function_skill(run, text=text)))


def stream(answer: str) -> bytes:
    """A component that streams one message with this text."""
    run = "(call $begin) (call $append) (call $end) (call $ok (i32.const 0) (i32.const 0))"
    return bytes(wasmtime.wat2wasm(hostile.message_stream(run, text=answer.encode())))


# --- skills and teams ----------------------------------------------------------------------------


class Skill:
    """A repository of a team, and what was pushed to it."""

    def __init__(self, team: Team, name: str, make: Callable[[str], bytes], marked: bool) -> None:
        self.team = team
        self.name = name
        self.digests: list[str] = []
        """Of the components, in the order of their numbers, which begin with 1."""
        self.manifests: list[str] = []
        self._make = make
        self._marked = marked

    @property
    def path(self) -> str:
        return f"{self.team.name}/{self.name}"

    @property
    def repository(self) -> str:
        return f"{self.team.base}/{self.name}"

    @property
    def streams(self) -> bool:
        return self._make is stream

    async def push(self) -> str:
        """The next version, under the tag ``latest``; the digest of the component."""
        wasm = self._make(str(len(self.digests) + 1))
        if self._marked:
            wasm = variant(wasm, self.path)
        # Written down first: somebody may see the tag before the registry's answer is here.
        self.digests.append(sha256(wasm))
        self.manifests.append(
            await push_component(self.team.client, self.repository, "latest", wasm)
        )
        return self.digests[-1]


class Team:
    """A namespace whose description and skills are its own."""

    def __init__(
        self, name: str, descriptions: DescriptionServer, client: OciClient, registry: str
    ) -> None:
        """``registry`` is how the kernel reaches it; ``client`` how the team does."""
        self.name = name
        self.base = unique(name)
        self.descriptions = descriptions
        self.client = client
        self.skills: dict[str, Skill] = {}
        self.tools: list[str] = []
        self.settings: dict[str, Json] = {
            "config-url": descriptions.url,
            "registry": registry,
            "base-repository": self.base,
            "registry-plain-http": True,
            "registry-timeout": "2s",
        }
        """Its table in the kernel's ``config.toml``."""
        self.describe()

    async def create(
        self, name: str, make: Callable[[str], bytes] = function, *, marked: bool = True
    ) -> Skill:
        """A new skill with its first version, in the description, too.

        ``make`` gets the number of a version. Unless they are ``marked`` with the skill's path,
        equal bytes of several skills are one version, and not pulled twice.
        """
        skill = self.skills[name] = Skill(self, name, make, marked)
        await skill.push()
        self.describe()
        return skill

    def describe(self) -> None:
        """Write the description as it should be."""
        entries = "".join(f'{{ name = "{name}" }}, ' for name in self.skills)
        self.descriptions.text = f"skills = [{entries}]\nnative-tools = {json.dumps(self.tools)}\n"


# --- the site ------------------------------------------------------------------------------------


@dataclass
class Site:
    """All there is. ``kernel`` is the one that runs now."""

    home: KernelHome
    registry: RegistryProcess
    proxy: RegistryProxy
    teams: dict[str, Team] = field(default_factory=dict)
    extra: dict[str, Json] = field(default_factory=dict)
    """Further tables of ``config.toml``."""
    token: str = ""
    """Of an operator, if the kernel wants one."""
    _kernel: KernelProcess | None = None
    _resources: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def kernel(self) -> KernelProcess:
        assert self._kernel
        return self._kernel

    @property
    def skills(self) -> list[Skill]:
        return self.skills_of(*self.teams)

    def skills_of(self, *teams: str) -> list[Skill]:
        return [skill for team in teams for skill in self.teams[team].skills.values()]

    async def found(self, name: str, *, behind_proxy: bool = False, **settings: Json) -> Team:
        """A new team, not in the kernel's configuration yet."""
        descriptions = await self._resources.enter_async_context(description_server())
        client = self.registry.client()
        self._resources.push_async_callback(client.close)
        host = self.proxy.host if behind_proxy else self.registry.host
        team = self.teams[name] = Team(name, descriptions, client, host)
        team.settings |= {key.replace("_", "-"): value for key, value in settings.items()}
        return team

    # --- the kernel

    def configure(self, *teams: str) -> None:
        """Write ``config.toml`` with these teams, or with all."""
        tables = {f"namespaces.{n}": self.teams[n].settings for n in teams or self.teams}
        self.write_config(toml(self.extra | tables))

    def write_config(self, text: str) -> None:
        unfinished = self.home.folder / "config.unfinished"
        unfinished.write_text(text)
        unfinished.replace(self.home.folder / "config.toml")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[KernelProcess, None]:
        async with self.home.running() as kernel:
            self._kernel = kernel
            yield kernel

    def start(self) -> KernelProcess:
        """A kernel that the caller ends."""
        self._kernel = self.home.start()
        return self._kernel

    # --- asking the kernel

    async def get(self, path: str) -> Json:
        response = await self.kernel.client.get(path, headers=bearer(self.token))
        assert response.status_code == 200, response.text
        return response.json()

    async def namespace(self, name: str) -> Json:
        return await self.get(f"/v1/namespaces/{name}")

    async def detail(self, skill: Skill) -> Json:
        """None if the namespace does not have it (yet)."""
        skills = (await self.namespace(skill.team.name))["skills"]
        return next((entry for entry in skills if entry["path"] == skill.path), None)

    async def refresh(self, team: str) -> None:
        """As a webhook does."""
        path = f"/v1/namespaces/{team}/refresh"
        answer = await self.kernel.client.post(path, headers=bearer(self.token))
        assert answer.status_code == 202, answer.text

    async def serves(self, skill: Skill, digest: str | None = None) -> Json:
        """Wait until the skill serves the version (by default the newest) and nothing is wrong."""
        wanted = digest or skill.digests[-1]

        async def is_serving() -> Json:
            found = await self.detail(skill)
            if found and found["digest"] == wanted and not found["error"]:
                return found
            return None

        with self._telling(skill.path):
            return await until(is_serving, f"{skill.path} serves {wanted}", seconds=PATIENCE)

    async def deploy(self, skill: Skill) -> Json:
        """Push, tell the kernel, and wait until it serves."""
        await skill.push()
        await self.refresh(skill.team.name)
        return await self.serves(skill)

    async def complains(self, skill: Skill, code: str) -> Json:
        """Wait for an error of the skill; it has to go on serving."""

        async def has_error() -> Json:
            found = await self.detail(skill)
            return found if found["error"] and found["error"]["code"] == code else None

        with self._telling(skill.path):
            detail = await until(has_error, f"{skill.path} reports {code}", seconds=PATIENCE)
        assert detail["status"] == "ready", detail
        assert detail["error"]["detail"]
        return detail

    async def enters(self, team: str, state: str, code: str | None = None, told: str = "") -> Json:
        """Wait until the namespace is in the state, because of ``code``, as the detail tells."""

        async def is_so() -> Json:
            found = await self.namespace(team)
            error = found["error"] or {"code": None, "detail": ""}
            right = found["state"] == state and error["code"] == code and told in error["detail"]
            return found if right else None

        with self._telling(team):
            return await until(is_so, f"{team} is {state} ({code}: {told})", seconds=PATIENCE)

    async def recovers(self, skill: Skill) -> None:
        """Wait until the skill serves its newest version, after what was wrong has ended."""
        await self.refresh(skill.team.name)
        await self.serves(skill)

    async def status_command(self, *arguments: str, token: str = "") -> tuple[int, Json]:
        """Exit code and answer of ``pharia-kernel status --json``."""
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "status",
            "--json",
            *arguments,
            env=self.home.environment
            | {"PHARIA_KERNEL_ADDRESS": self.kernel.url, "PHARIA_AI_TOKEN": token},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return await process.wait(), json.loads(out) if out else None

    def events(self, message: str, **facts: object) -> list[dict[str, Json]]:
        """Entries of the log with this message and these fields."""
        return [
            entry
            for entry in self.kernel.entries()
            if entry["message"].startswith(message)
            and all(entry.get(name) == value for name, value in facts.items())
        ]

    @contextlib.contextmanager
    def _telling(self, about: str) -> Any:
        """Put the end of the log into a failure."""
        try:
            yield
        except AssertionError as error:
            entries = self.kernel.entries()
            others = [e for e in entries if e["logger"] != "pharia_kernel.skills.runs"]
            told = [e for e in others if e["level"] == "error" or about in str(e)]
            error.add_note("\n".join(json.dumps(entry) for entry in told[-15:]))
            raise


@contextlib.asynccontextmanager
async def new_site(
    *, artifacts: Path | None = None, registry: RegistryProcess | None = None, **settings: object
) -> AsyncGenerator[Site, None]:
    """A site without teams; ``artifacts`` is where the kernel keeps what it has compiled, by
    default a new directory.
    """
    settings = {
        "engines": 1,
        "namespace_update_interval": INTERVAL,
        "namespace_fetch_timeout": "1s",
        **settings,
    }
    async with contextlib.AsyncExitStack() as stack:
        home = stack.enter_context(temporary_home(namespaces={}, **settings))
        home.artifacts = artifacts or home.folder / "artifacts"
        own = registry or stack.enter_context(running_registry())
        proxy = await stack.enter_async_context(running_proxy(own.host))
        site = Site(home, own, proxy)
        stack.push_async_callback(site._resources.aclose)
        yield site


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def toml(tables: Mapping[str, Mapping[str, Json]]) -> str:
    """Tables of plain values; JSON writes these as TOML does."""
    lines = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


# --- traffic -------------------------------------------------------------------------------------


class Traffic:
    """Requests at a steady rate, each of which has to succeed.

    No answer may come from an older version than one that has answered before the request began.
    """

    def __init__(self, kernel: KernelProcess, token: str | None = None) -> None:
        self.answers: Counter[str] = Counter()
        """By skill."""
        self.failures: list[str] = []
        self._kernel = kernel
        self._headers = bearer(token)
        self._newest: dict[str, int] = {}
        self._workers: dict[str, list[asyncio.Task[None]]] = {}
        self._stopped: set[str] = set()

    async def flow(self, *skills: Skill, connections: int = 2) -> None:
        """Begin to call these skills, and wait for the first answers."""
        for skill in skills:
            self._workers[skill.path] = [
                asyncio.create_task(self._work(skill)) for _ in range(connections)
            ]
        await self.goes_on(*skills)

    async def ebb(self, *paths: str) -> None:
        """Stop calling these; requests under way are answered."""
        self._stopped.update(paths)
        for path in paths:
            await asyncio.gather(*self._workers.pop(path))
        self._stopped.difference_update(paths)

    async def goes_on(self, *skills: Skill, answers: int = 4) -> None:
        """Wait until each of the skills, or of all, has answered further requests."""
        paths = [skill.path for skill in skills] or list(self._workers)
        wanted = {path: self.answers[path] + answers for path in paths}

        async def enough() -> bool:
            return all(self.answers[path] >= count for path, count in wanted.items())

        await until(enough, f"answers of {', '.join(paths)}", seconds=PATIENCE)

    async def end(self) -> None:
        await self.ebb(*self._workers)

    async def _work(self, skill: Skill) -> None:
        while skill.path not in self._stopped:
            await self._ask(skill)
            await asyncio.sleep(_PACE)  # the rate of the traffic; nothing waits for it

    async def _ask(self, skill: Skill) -> None:
        floor = self._newest.get(skill.path, 0)
        try:
            number = await self._call(skill)
        except (AssertionError, httpx.HTTPError, ValueError, KeyError) as error:
            self.failures.append(f"{skill.path}: {type(error).__name__}: {error}"[:500])
        else:
            if not floor <= number <= len(skill.digests):
                self.failures.append(f"{skill.path}: {number} after {floor} had answered")
            self._newest[skill.path] = max(number, self._newest.get(skill.path, 0))
        self.answers[skill.path] += 1

    async def _call(self, skill: Skill) -> int:
        if skill.streams:
            streamed = await self._kernel.stream(skill.path, {}, headers=self._headers)
            assert streamed.status == 200, streamed.response.text
            assert streamed.end is None
            return int(streamed.text)
        answer = await self._kernel.run(skill.path, {}, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return int(answer.json())


@contextlib.asynccontextmanager
async def traffic(
    kernel: KernelProcess, *skills: Skill, token: str | None = None
) -> AsyncGenerator[Traffic, None]:
    """As long as the block lasts; in the end nothing may have failed."""
    requests = Traffic(kernel, token)
    try:
        await requests.flow(*skills)
        yield requests
        await requests.goes_on()
    finally:
        await requests.end()
    assert not requests.failures, requests.failures[:10]


async def all_of(*waits: Awaitable[object]) -> None:
    """At the same time."""
    await asyncio.gather(*waits)


def states(history: Iterable[Mapping[str, Json]]) -> Sequence[str]:
    return [record["state"] for record in history]
