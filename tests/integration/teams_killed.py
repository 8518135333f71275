"""A kernel that is killed at random moments while teams deploy, and what the next one does."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator

import httpx

from tests.integration.teams import PATIENCE, Site, Skill, all_of
from tests.integration.test_deployment import children, is_alive
from tests.support.kernel import KernelProcess, until

LONGEST_LIFE = 3.0
"""Seconds from the moment that a kernel listens."""
DOWN = ("nothing", "registry", "descriptions", "both")
"""What can't be reached when the next kernel starts."""


class Killing:
    """Kills the site's kernel again and again, and holds the next one against what it should do."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        self.site = site
        self.kills = 0
        self._chance = chance
        self._served: dict[str, int] = {}
        """By skill: the newest version that was seen serving."""

    async def begin(self) -> None:
        """A first kernel that serves everything, and has noted it for the next one."""
        kernel = self.site.start()
        await kernel.ready()
        await self._serves_the_newest()

    async def end(self) -> KernelProcess:
        """A last kernel, which has to compile nothing."""
        await self._stop()
        kernel = self.site.start()
        await kernel.ready()
        await self._serves_the_newest()
        compiled = [m for m in kernel.messages() if m.startswith("compiled sha256:")]
        assert not compiled, compiled
        await self._stop()
        return kernel

    async def kill(self, down: str) -> None:
        """In the middle of deployments; the next kernel starts while ``down`` is."""
        async with self._deploying():
            await asyncio.sleep(self._chance.uniform(0.0, LONGEST_LIFE))  # the random moment
            kernel = await self._kill()
        await kernel.close()
        async with self._without(down):
            kernel = self.site.start()
            await kernel.ready()
            await all_of(*(self._comes_back(skill, down) for skill in self.site.skills))
        await self._serves_the_newest()
        self.kills += 1

    # --- ends

    async def _kill(self) -> KernelProcess:
        kernel = self.site.kernel
        offspring = children(kernel)
        kernel.kill()

        async def all_gone() -> bool:
            return not any(is_alive(process.pid) for process in offspring)

        await until(all_gone, "engines and compilers end with their kernel")
        assert not kernel.tracebacks(), kernel.tracebacks()
        unsound = [m for m in kernel.messages() if "compiled again" in m or "Compiling" in m]
        assert not unsound, unsound
        return kernel

    async def _stop(self) -> None:
        kernel = self.site.kernel
        kernel.terminate()
        assert await kernel.exit(PATIENCE) == 0, kernel.log()
        await kernel.close()
        assert not kernel.tracebacks(), kernel.tracebacks()

    # --- what goes on meanwhile

    @contextlib.asynccontextmanager
    async def _deploying(self) -> AsyncGenerator[None, None]:
        """Pushes, webhooks and requests, whether the kernel lives or not.

        In the end they are finished: half a push would leave us in doubt of what the registry has.
        """
        stop = asyncio.Event()
        works = (self._push, self._call, self._call)
        tasks = [asyncio.create_task(work(stop)) for work in works]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _push(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            skill = self._chance.choice(self.site.skills)
            await skill.push()
            with contextlib.suppress(httpx.HTTPError):
                await self.site.refresh(skill.team.name)

    async def _call(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            skill = self._chance.choice(self.site.skills)
            with contextlib.suppress(httpx.HTTPError, AssertionError):
                if skill.streams:
                    await self.site.kernel.stream(skill.path, {})
                else:
                    await self.site.kernel.run(skill.path, {})
            await asyncio.sleep(0.01)  # the rate of the requests

    # --- what the next kernel does

    @contextlib.asynccontextmanager
    async def _without(self, down: str) -> AsyncGenerator[None, None]:
        teams = self.site.teams.values()
        if down in ("registry", "both"):
            self.site.registry.kill()
        if down in ("descriptions", "both"):
            await all_of(*(team.descriptions.stop() for team in teams))
        yield
        if down in ("registry", "both"):
            self.site.registry.start()
        if down in ("descriptions", "both"):
            await all_of(*(team.descriptions.start() for team in teams))

    async def _comes_back(self, skill: Skill, down: str) -> None:
        """At what the registry has, or else at what served last."""
        if down in ("descriptions", "both"):
            await self.site.enters(skill.team.name, "stale", "namespace_unavailable")
        if down in ("nothing", "descriptions"):
            await self.site.serves(skill)
            return

        async def is_serving() -> bool:
            detail = await self.site.detail(skill)
            return bool(detail and detail["digest"])

        await until(is_serving, f"{skill.path} serves without its registry", seconds=PATIENCE)
        detail = await self.site.complains(skill, "registry_unavailable")
        number = skill.digests.index(detail["digest"]) + 1
        assert number >= self._served[skill.path], "it went back"

    async def _serves_the_newest(self) -> None:
        for team in self.site.teams:
            await self.site.refresh(team)
        await all_of(*(self.site.serves(skill) for skill in self.site.skills))
        for team in self.site.teams:
            await self.site.enters(team, "ok")
        self._served = {skill.path: len(skill.digests) for skill in self.site.skills}
