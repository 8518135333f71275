"""Notices at once that a file or directory changed, where the file system tells."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch
from watchfiles.main import FileChange

logger = logging.getLogger(__name__)

QUIET = 0.025
"""Seconds."""
_BURST_MS = 200
_LONGEST_WATCH = 5.0
"""Seconds after which directories are looked up again, should one have been replaced."""
_ONLY_POLLED = 60.0
"""Seconds before watching is tried again, after the system refused it."""

_Identity = tuple[int, int] | None
_Content = tuple[int, ...] | None
"""What tells versions of a file apart, empty if it is missing; none for a directory."""


class Watcher:
    """Calls ``changed`` with the key of each place in which something happened, and once for every
    place when watching begins.

    A place is a directory or a file, and need not exist. A file is watched through its directory,
    so it may be replaced, also by swapping a symbolic link beside it, as Kubernetes does. What can
    go unnoticed (network file systems, a full table of watches) is for the caller to poll.
    """

    def __init__(
        self,
        places: Callable[[], Mapping[str, Path]],
        changed: Callable[[str], None],
        quiet: float = QUIET,
    ) -> None:
        """A burst of events is over when nothing happened for ``quiet`` seconds. The library looks
        for news that often: at 25 ms, that takes 1.5 % of a core all the time.
        """
        self._wanted = places
        self._changed = changed
        self._step = int(1000 * quiet)
        self._contents: dict[str, _Content] = {}
        """Of each place, as it was told."""
        self._refresh = asyncio.Event()

    def refresh(self) -> None:
        """The places may be others now."""
        self._refresh.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            self._refresh = asyncio.Event()
            places = await asyncio.to_thread(_watchable, self._wanted())
            if not places:
                await self._refresh.wait()
                continue
            try:
                await self._watch(places)
            except (OSError, RuntimeError) as error:  # RuntimeError: of the library's native part
                logger.warning("Files can't be watched, only polled: %s", error)
                await asyncio.sleep(_ONLY_POLLED)

    async def _watch(self, places: dict[str, Path]) -> None:
        """Until there is another set of places, or one of them is another directory."""
        identities = await asyncio.to_thread(_identities, places)
        batches = awatch(
            *set(places.values()),
            recursive=False,
            watch_filter=None,
            step=self._step,
            debounce=max(_BURST_MS, self._step),
            rust_timeout=int(1000 * _LONGEST_WATCH),
            yield_on_timeout=True,
            stop_event=self._refresh,
        )
        async with aclosing(batches):
            batch = asyncio.ensure_future(_next(batches))
            try:  # at once: a generator can't be closed while it runs
                await asyncio.sleep(0)  # now it watches
                await self._tell(places, set(places.values()))  # of what happened before
                while (changes := await batch) is not None:
                    batch = asyncio.ensure_future(_next(batches))
                    touched = {p for _, c in changes for p in (Path(c), Path(c).parent)}
                    await self._tell(places, touched)
                    now = await asyncio.to_thread(_watchable, self._wanted())
                    if now != places or await asyncio.to_thread(_identities, now) != identities:
                        return
            finally:
                batch.cancel()
                await asyncio.gather(batch, return_exceptions=True)

    async def _tell(self, places: dict[str, Path], happened_in: set[Path]) -> None:
        """Other files may be in the directory of a file; what happens to them is no news."""
        near = {k: p for k, p in self._wanted().items() if places.get(k) in happened_in}
        for key, content in (await asyncio.to_thread(_contents, near)).items():
            if content is None or content != self._contents.get(key):
                self._changed(key)
            self._contents[key] = content


async def _next(batches: AsyncGenerator[set[FileChange], None]) -> set[FileChange] | None:
    """None when the watch was stopped."""
    return await anext(batches, None)


def _watchable(places: Mapping[str, Path]) -> dict[str, Path]:
    """The directory to watch for each place: itself, or the nearest parent that is one."""
    return {key: _nearest_directory(place) for key, place in places.items()}


def _nearest_directory(place: Path) -> Path:
    candidate = place.absolute()
    while not candidate.is_dir() and candidate != candidate.parent:
        candidate = candidate.parent
    return Path(os.path.realpath(candidate))


def _identities(places: dict[str, Path]) -> dict[str, _Identity]:
    return {key: _identity(place) for key, place in places.items()}


def _identity(place: Path) -> _Identity:
    try:
        status = place.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _contents(places: dict[str, Path]) -> dict[str, _Content]:
    return {key: _content(place) for key, place in places.items()}


def _content(place: Path) -> _Content:
    try:
        status = place.stat()
    except OSError:
        return ()
    if stat.S_ISDIR(status.st_mode):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
