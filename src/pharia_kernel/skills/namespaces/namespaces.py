"""All namespaces of the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pharia_kernel.config.namespaces import TeamOwnedNamespace
from pharia_kernel.skills.namespaces.fetching import Fetcher
from pharia_kernel.skills.namespaces.following import Follower
from pharia_kernel.skills.namespaces.forms import form_of
from pharia_kernel.skills.namespaces.interfaces import Config, Registries, Tools, Verifiers
from pharia_kernel.skills.namespaces.remembering import Memory
from pharia_kernel.skills.namespaces.sources import Sources
from pharia_kernel.skills.store import SkillStore
from pharia_kernel.skills.types import NamespaceStatus
from pharia_kernel.skills.watching import Watcher

FIRST_PASS_LIMIT = 10.0
"""Seconds that ``start`` waits for namespaces that don't answer."""
_COMPONENTS = ":components"


class Namespaces:
    """Keeps what should run, and which tools there are, up to date.

    Namespaces don't wait for each other: each has a task of its own. A change of a file or
    directory is noticed at once where the file system tells; everything is looked at again at
    intervals anyway.
    """

    def __init__(
        self,
        configs: Mapping[str, Config],
        store: SkillStore,
        tools: Tools,
        registries: Registries,
        verifiers: Verifiers,
        *,
        interval: float,
        fetch_timeout: float,
        unload_broken: bool,
        state_directory: Path | None,
    ) -> None:
        """Times are in seconds. ``interval`` is for namespaces without one of their own.

        ``unload_broken``: a namespace whose description can't be used loses its skills, also those
        of the last good one. ``state_directory`` keeps the last good remote descriptions for the
        next start, and which versions from OCI registries serve; none: they are not kept.
        """
        self._store = store
        self._tools = tools
        self._registries = registries
        self._verifiers = verifiers
        self._interval = interval
        self._unload_broken = unload_broken
        self._fetcher = Fetcher(fetch_timeout)
        self._memory = Memory(state_directory)
        self._state_directory = state_directory
        self._followers: dict[str, Follower] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watcher = Watcher(self._places, self._happened)
        self._watching: asyncio.Task[None] | None = None
        self._reconfiguring = asyncio.Lock()
        for name, config in configs.items():
            self._add(name, config)

    async def start(self) -> None:
        """Try every namespace once; those that take too long are left to the background."""
        for name in self._followers:
            self._follow(name)
        self._watching = asyncio.create_task(self._watcher.run(), name="namespace watcher")
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PASS_LIMIT):
                for follower in list(self._followers.values()):
                    await follower.tried.wait()

    async def close(self) -> None:
        tasks = [*self._tasks.values(), *([self._watching] if self._watching else [])]
        await _cancel(*tasks)
        await self._fetcher.close()

    def statuses(self) -> list[NamespaceStatus]:
        """Sorted by name."""
        return [self._followers[name].status() for name in sorted(self._followers)]

    def poll(self, name: str) -> None:
        """Look at the namespace now, whatever pause it is in. Nothing happens if there is none."""
        if follower := self._followers.get(name):
            follower.poll()

    async def reconfigure(self, configs: Mapping[str, Config]) -> None:
        """From now on exactly these namespaces exist.

        Those that did not change are not disturbed. One that did keeps what it has until its new
        description is there. Returns before the new ones are read.
        """
        async with self._reconfiguring:
            for name in self._followers.keys() - configs.keys():
                await self._remove(name)
            for name, config in configs.items():
                current = self._followers.get(name)
                if current is None:
                    self._add(name, config)
                elif current.config != config:
                    await self._replace(name, config, current)
                else:
                    continue
                if self._watching:
                    self._follow(name)
            self._watcher.refresh()

    # --- single namespaces ------------------------------------------------------------------------

    def _add(self, name: str, config: Config) -> None:
        self._store.expect([name])
        self._tools.configure(name, (), ())
        self._followers[name] = self._follower(name, config)

    async def _replace(self, name: str, config: Config, current: Follower) -> None:
        await self._stop(name)
        self._followers[name] = self._follower(name, config, current)
        if _url(current.config) != _url(config):
            await current.form.forget()

    async def _remove(self, name: str) -> None:
        await self._stop(name)
        follower = self._followers.pop(name)
        self._store.remove(name)
        self._tools.remove(name)
        await follower.form.forget()

    def _follower(self, name: str, config: Config, predecessor: Follower | None = None) -> Follower:
        sources = Sources(name, config, self._registries, self._verifiers, self._state_directory)
        return Follower(
            name,
            config,
            form_of(name, config, sources, self._fetcher, self._memory),
            self._store,
            self._tools,
            interval=self._interval,
            unload_broken=self._unload_broken,
            predecessor=predecessor,
        )

    def _follow(self, name: str) -> None:
        task = asyncio.create_task(self._followers[name].run(), name=f"namespace {name}")
        self._tasks[name] = task

    async def _stop(self, name: str) -> None:
        self._followers[name].tried.set()  # nobody is to wait for it any more
        if task := self._tasks.pop(name, None):
            await _cancel(task)

    # --- noticing changes -------------------------------------------------------------------------

    def _places(self) -> dict[str, Path]:
        """Of descriptions under the namespace's name, of components with a mark behind it."""
        forms = {name: follower.form for name, follower in self._followers.items()}
        descriptions = {name: form.place for name, form in forms.items() if form.place}
        components = {
            name + _COMPONENTS: form.components for name, form in forms.items() if form.components
        }
        return descriptions | components

    def _happened(self, place: str) -> None:
        follower = self._followers.get(place.removesuffix(_COMPONENTS))
        if follower is None:
            return
        if place.endswith(_COMPONENTS):
            follower.look_at_components()
        else:
            follower.poll()


def _url(config: Config) -> str | None:
    return config.config_url if isinstance(config, TeamOwnedNamespace) else None


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
