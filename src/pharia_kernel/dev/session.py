"""One session of ``pharia-kernel dev``: the sources, and what the author is told of them."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from pharia_kernel.dev.engine import Described
from pharia_kernel.dev.engines import Revision
from pharia_kernel.dev.examples import example_of
from pharia_kernel.dev.terminal import Terminal
from pharia_kernel.skills.registry.file import SUFFIX
from pharia_kernel.skills.watching import Watcher

_MOST_FOLDERS = 200
_NOT_SOURCES = frozenset({"__pycache__", "node_modules", "site-packages"})
_LINE = re.compile(r":\d+:")
_POLL = 2.0
"""Seconds."""
_LONGEST_TOLD = 60.0
"""Seconds; a file that is older was not edited just now."""

_Stamps = dict[Path, tuple[int, int] | None]


class _Source:
    """One source, and the state of its files when it was last handed to the kernel."""

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self.file = file
        self.number = 0
        self.files = {file}
        """The author's modules that it consists of."""
        self.broken = False
        self.stamps: _Stamps = {}
        self.handed_over = 0
        """When, in nanoseconds since the epoch."""
        self.served = False
        self.described: Described | None = None

    @property
    def root(self) -> Path:
        root = self.file.parent
        while (root / "__init__.py").is_file():
            root = root.parent
        return root

    def watched(self) -> set[Path]:
        """What could repair a broken source may be any file of the folder."""
        if not self.broken:
            return self.files
        found = (file for folder in folders(self.root) for file in folder.glob("*.py"))
        return {*self.files, *found}


class Session:
    """Keeps a folder of revisions, which the kernel reads as a namespace: each stands for one
    state of one source."""

    def __init__(self, sources: dict[str, Path], namespace: str, terminal: Terminal) -> None:
        self._sources = {name: _Source(name, file) for name, file in sources.items()}
        self._namespace = namespace
        self._terminal = terminal
        self._temporary = tempfile.TemporaryDirectory(
            prefix="pharia-dev-", ignore_cleanup_errors=True
        )
        self.shared = Path(self._temporary.name) / "shared"
        self.directory = Path(self._temporary.name) / "revisions"
        self.shared.mkdir()
        self.directory.mkdir()
        self._watcher = Watcher(self._places, lambda _: self._look_at_all())
        self._changed: Callable[[], None] = lambda: None
        self._url: str | None = None
        self._warnings: set[str] = set()

    def __enter__(self) -> Self:
        for source in self._sources.values():
            self._look_at(source)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._temporary.cleanup()

    async def follow(self, changed: Callable[[], None]) -> None:
        """Notice what is saved, and tell the kernel by ``changed``, until cancelled."""
        self._changed = changed
        watching = asyncio.create_task(self._watcher.run())
        try:
            while True:  # where the file system does not tell
                await asyncio.sleep(_POLL)
                self._look_at_all()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    # --- files ------------------------------------------------------------------------------------

    def _places(self) -> dict[str, Path]:
        places = {
            folder
            for source in self._sources.values()
            for folder in (*folders(source.root), *(file.parent for file in source.files))
        }
        return {str(place): place for place in places}

    def _look_at_all(self) -> None:
        for source in self._sources.values():
            self._look_at(source)

    def _look_at(self, source: _Source) -> None:
        """Hand it over if a file is another than it was."""
        now = {file: _stamp(file) for file in source.watched()}
        known = source.stamps
        new = [file for file in now if file not in known]
        saved = [file for file in known if file in now and now[file] != known[file]]
        saved += [file for file in new if (now[file] or (0, 0))[0] > source.handed_over]
        source.stamps = now
        if source.file.is_file():
            if saved or not source.number or not self._revision(source).exists():
                self._hand_over(source)
        elif self._revision(source).exists():
            self._revision(source).unlink()
            self._terminal.bad(f"{source.name}: {source.file} is gone; the skill is removed")

    def _hand_over(self, source: _Source) -> None:
        source.number += 1
        source.handed_over = time.time_ns()
        revision = Revision(source.name, str(source.file), source.number)
        unfinished = self.directory / f".{source.name}"
        unfinished.write_bytes(revision.encode())
        unfinished.replace(self._revision(source))
        self._changed()

    def _revision(self, source: _Source) -> Path:
        return self.directory / f"{source.name}{SUFFIX}"

    # --- what the engines tell --------------------------------------------------------------------

    def imported(self, revision: Revision, described: Described) -> None:
        source = self._of(revision)
        if revision.number < source.number:
            return  # overtaken
        source.broken = False
        source.described = described
        self._learn(source, described)

    def broken(self, revision: Revision, described: Described | None, reason: str) -> None:
        source = self._of(revision)
        if revision.number < source.number:
            return
        source.broken = True
        state = "; the version before it keeps serving" if source.served else ""
        self._terminal.bad(f"{source.name}: can't be imported{state}\n{reason}")
        self._learn(source, described)

    def serves(self, revision: Revision) -> None:
        source = self._of(revision)
        if source.served:
            self._terminal.good(f"{source.name}: reloaded in {self._took(source):.2f} s")
        else:
            source.served = True
            self._greet(source)

    def warned(self, revision: Revision, warning: str) -> None:
        """Once in a session, wherever the line has moved to."""
        gist = _LINE.sub(":", warning, count=1)
        if gist not in self._warnings:
            self._warnings.add(gist)
            self._terminal.warn(f"{revision.name}: {warning}")

    def hold_terminal(self, held: bool) -> None:
        self._terminal.hold(held)

    def _of(self, revision: Revision) -> _Source:
        return self._sources[revision.name]

    def _learn(self, source: _Source, described: Described | None) -> None:
        source.files = {source.file, *map(Path, described.files if described else ())}
        self._watcher.refresh()
        self._look_at(source)

    def _took(self, source: _Source) -> float:
        """Seconds since the last edit, or since it was noticed."""
        newest = max((stamp[0] for stamp in source.stamps.values() if stamp), default=0)
        since_edit = (time.time_ns() - newest) / 1e9
        if 0 <= since_edit < _LONGEST_TOLD:
            return since_edit
        return (time.time_ns() - source.handed_over) / 1e9

    # --- what the author is told ------------------------------------------------------------------

    def bound(self, host: str, port: int) -> None:
        """The kernel listens."""
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._terminal.say(f"Serving from source, without a sandbox, at {self._url}")
        for source in self._sources.values():
            self._terminal.say(f"  {self._namespace}/{source.name}: {source.file}")
            if source.served:
                self._greet(source)
        self._terminal.say("Reloads when a file is saved. Press Ctrl-C to stop.")

    def _greet(self, source: _Source) -> None:
        if self._url and source.described:
            self._terminal.say(
                f"  {curl(self._url, self._namespace, source.name, source.described)}"
            )


def curl(url: str, namespace: str, name: str, described: Described) -> str:
    """A command that runs the skill with an input that fits its schema."""
    schema = msgspec.json.decode(described.input_schema or b"null") or {"type": "object"}
    action = "message-stream" if described.kind == "message_stream" else "run"
    body = shlex.quote(json.dumps(example_of(schema), ensure_ascii=False))
    return (
        f"curl {'-N ' if action == 'message-stream' else ''}{url}/v1/skills/{namespace}/{name}/"
        f"{action} --json {body}"
    )


def folders(root: Path) -> Iterator[Path]:
    """Folders that can hold sources: none that are hidden, or have packages installed to them."""
    found, waiting = 0, [root]
    while waiting and found < _MOST_FOLDERS:
        folder = waiting.pop(0)
        found += 1
        yield folder
        try:
            inside = sorted(path for path in folder.iterdir() if path.is_dir())
        except OSError:
            continue
        waiting += [path for path in inside if not _is_no_source(path)]


def _is_no_source(folder: Path) -> bool:
    name = folder.name
    return name.startswith(".") or name in _NOT_SOURCES or (folder / "pyvenv.cfg").exists()


def _stamp(file: Path) -> tuple[int, int] | None:
    """Time of the last change in nanoseconds, and size; None if there is no such file."""
    try:
        status = file.stat()
    except OSError:
        return None
    # Not when it was modified: a file that is moved here was modified elsewhere.
    return status.st_ctime_ns, status.st_size
