"""What should run: reads the namespaces again and again and tells the store."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Protocol

from watchfiles import awatch

from pharia_kernel.config.namespaces import (
    ChatSkillEntry,
    FileRegistryConfig,
    InPlaceNamespace,
    SkillEntry,
    TeamOwnedNamespace,
    WatchNamespace,
)
from pharia_kernel.errors import NamespaceMisconfigured
from pharia_kernel.skills.chat import ChatSkill
from pharia_kernel.skills.deployment import ComponentSource
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.store import SkillStore, Source

logger = logging.getLogger(__name__)

Config = WatchNamespace | InPlaceNamespace | TeamOwnedNamespace

FIRST_PASS_LIMIT = 10.0
"""Seconds that ``start`` waits for namespaces that don't answer."""
_QUIET_MS = 25
"""A burst of file system events is over when nothing happened for so long."""
_BURST_MS = 200
_LONGEST_WATCH = 5.0
"""Seconds after which directories are looked up again, should one have been replaced."""


# --- the forms of a namespace ---------------------------------------------------------------------


class Description(Protocol):
    """Tells the skills that a namespace wants."""

    @property
    def directory(self) -> Path | None:
        """Where a change can be noticed."""
        ...

    async def skills(self) -> dict[str, Source]:
        """The skills by name; raises ``NamespaceMisconfigured``."""
        ...


class DirectoryDescription:
    """Every component in a directory is a skill."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self._namespace = namespace
        self._registry = FileRegistry(directory)

    @property
    def directory(self) -> Path:
        return self._registry.directory

    async def skills(self) -> dict[str, Source]:
        try:
            names = await self._registry.names()
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise NamespaceMisconfigured(
                f"Namespace `{self._namespace}` is misconfigured: its directory "
                f"`{self.directory}` can't be read: {reason}."
            ) from error
        return {name: ComponentSource(self._registry, name) for name in names}


class ListDescription:
    """The skills are listed in the configuration; components come from a directory."""

    def __init__(self, config: InPlaceNamespace, registry: FileRegistry) -> None:
        self._registry = registry
        self._skills = {entry.name: self._source(entry) for entry in config.skills}

    @property
    def directory(self) -> Path:
        return self._registry.directory

    async def skills(self) -> dict[str, Source]:
        return self._skills

    def _source(self, entry: SkillEntry | ChatSkillEntry) -> Source:
        if isinstance(entry, ChatSkillEntry):
            return ChatSkill(entry.version, entry.model, entry.system_prompt)
        return ComponentSource(self._registry, entry.name, entry.tag)


class UnsupportedDescription:
    """A valid form that this version of the kernel can't act on."""

    directory = None

    def __init__(self, namespace: str, form: str) -> None:
        self._detail = (
            f"Namespace `{namespace}` uses {form}, which this kernel does not support yet."
        )

    async def skills(self) -> dict[str, Source]:
        raise NamespaceMisconfigured(self._detail)


def describe(namespace: str, config: Config) -> Description:
    match config:
        case WatchNamespace():
            return DirectoryDescription(namespace, config.directory)
        case InPlaceNamespace(registry=FileRegistryConfig() as registry):
            return ListDescription(config, FileRegistry(registry.path))
        case InPlaceNamespace():
            return UnsupportedDescription(namespace, "an OCI registry (`registry`)")
        case TeamOwnedNamespace():
            return UnsupportedDescription(namespace, "a description elsewhere (`config-url`)")


# --- following them -------------------------------------------------------------------------------


class _Followed:
    def __init__(self, description: Description) -> None:
        self.description = description
        self.wake = asyncio.Event()
        self.read = asyncio.Event()
        """Set after the first attempt."""
        self.problem: str | None = None


class Namespaces:
    """Keeps the store's desired state up to date.

    A change of a directory is noticed at once where the file system tells; every ``interval``
    seconds everything is read anyway. Namespaces don't wait for each other.
    """

    def __init__(
        self, configs: Mapping[str, Config], store: SkillStore, *, interval: float
    ) -> None:
        self._store = store
        self._interval = interval
        self._followed = {name: _Followed(describe(name, configs[name])) for name in configs}
        self._tasks: list[asyncio.Task[None]] = []
        store.expect(configs)

    async def start(self) -> None:
        """Read every namespace once; those that take too long are left to the background."""
        self._tasks = [
            asyncio.create_task(self._follow(name, followed), name=f"namespace {name}")
            for name, followed in self._followed.items()
        ]
        if any(followed.description.directory for followed in self._followed.values()):
            self._tasks.append(asyncio.create_task(self._watch(), name="namespace watcher"))
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PASS_LIMIT):
                for followed in self._followed.values():
                    await followed.read.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, name: str, followed: _Followed) -> None:
        while True:
            followed.wake.clear()
            try:
                await self._apply(name, followed)
            except Exception:
                logger.exception("Reading namespace %s failed; it stays as it is", name)
            followed.read.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await followed.wake.wait()

    async def _apply(self, name: str, followed: _Followed) -> None:
        try:
            skills = await followed.description.skills()
        except NamespaceMisconfigured as error:
            if followed.problem != error.detail:
                logger.error("%s", error.detail)
            followed.problem = error.detail
            self._store.invalidate(name, error.with_traceback(None))
        else:
            if followed.problem:
                logger.info("Namespace %s is in order again", name)
            followed.problem = None
            self._store.configure(name, skills)

    # --- noticing changes -------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            places = await asyncio.to_thread(self._places)
            try:
                await self._watch_places(places)
            except (OSError, RuntimeError) as error:  # RuntimeError: of the library's native part
                logger.warning("Directories can't be watched, only polled: %s", error)
                await asyncio.sleep(self._interval)

    async def _watch_places(self, places: dict[str, Path]) -> None:
        """Wake the namespaces whose place changed, until a place is another directory."""
        batches = awatch(
            *set(places.values()),
            recursive=False,
            watch_filter=None,
            step=_QUIET_MS,
            debounce=_BURST_MS,
            rust_timeout=int(1000 * min(self._interval, _LONGEST_WATCH)),
            yield_on_timeout=True,
        )
        identities = await asyncio.to_thread(_identities, places)
        async with aclosing(batches):
            batch = asyncio.ensure_future(anext(batches))
            try:  # at once: a generator can't be closed while it runs
                await asyncio.sleep(0)  # now it watches
                self._wake(places, set(places.values()))  # for what happened before
                while True:
                    changes = await batch
                    self._wake(places, {p for _, c in changes for p in (Path(c), Path(c).parent)})
                    if await asyncio.to_thread(self._moved, places, identities):
                        return
                    batch = asyncio.ensure_future(anext(batches))
            finally:
                batch.cancel()
                await asyncio.gather(batch, return_exceptions=True)

    def _wake(self, places: dict[str, Path], changed: set[Path]) -> None:
        for name, place in places.items():
            if place in changed:
                self._followed[name].wake.set()

    def _places(self) -> dict[str, Path]:
        """The directory to watch for each namespace: its own, or the nearest parent that exists."""
        directories = {name: f.description.directory for name, f in self._followed.items()}
        return {name: _nearest(d) for name, d in directories.items() if d is not None}

    def _moved(
        self, places: dict[str, Path], identities: dict[str, tuple[int, int] | None]
    ) -> bool:
        now = self._places()
        return now != places or _identities(now) != identities


def _nearest(directory: Path) -> Path:
    candidate = directory.absolute()
    while not candidate.is_dir() and candidate != candidate.parent:
        candidate = candidate.parent
    return Path(os.path.realpath(candidate))


def _identities(places: dict[str, Path]) -> dict[str, tuple[int, int] | None]:
    return {name: _identity(place) for name, place in places.items()}


def _identity(place: Path) -> tuple[int, int] | None:
    try:
        status = place.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
