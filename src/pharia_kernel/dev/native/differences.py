"""Notices what works here and will not in a component, by Python's audit events.

https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import threading
from collections import abc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .loading import Author

_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib")
)
_IMPORTING = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
_ENVIRONMENT = ("<frozen os>", "<frozen _collections_abc>", os.__file__, abc.__file__)
"""Where ``os.getenv`` and ``os.environ.get`` are."""
_AVAILABLE = frozenset({"pydantic_core"})
"""Native packages that both SDKs have a version of for components."""
_TELLING = ("traceback.py", "linecache.py", "tokenize.py", "warnings.py")
"""Read sources to show them; a component does that from memory."""
_LOOKING = ("/pydantic/plugin/_loader.py",)
"""Look through folders for what may be installed, and get along without."""
_DEBUGGING = ("/bdb.py", "/pdb.py", "/native/debugging.py")

_NETWORK = "the network: components have none; ask through the Csi, for instance by a tool"
_PROCESS = "other processes: components can't start any"
_THREAD = "threads: components have one; the Csi's `_concurrent` methods work on several requests"
_EVENTS = {
    "socket.connect": _NETWORK,
    "socket.bind": _NETWORK,
    "socket.sendto": _NETWORK,
    "socket.getaddrinfo": _NETWORK,
    "socket.gethostbyname": _NETWORK,
    "subprocess.Popen": _PROCESS,
    "os.system": _PROCESS,
    "os.exec": _PROCESS,
    "os.fork": _PROCESS,
    "os.forkpty": _PROCESS,
    "os.posix_spawn": _PROCESS,
    "os.spawn": _PROCESS,
    "ctypes.dlopen": "a native library: components can't load any",
}
_FILES = frozenset({"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename"})


class Differences:
    """Tells ``warn`` of each place where the author's code relies on what components lack, once for
    each kind of thing. Runs tell again: they know nothing of each other."""

    def __init__(self, author: Author, warn: Callable[[str], None]) -> None:
        self._author = author
        self._warn = warn
        self._told: set[tuple[str, str]] = set()
        self._busy = False
        self.running = False
        """Whether a run is under way; before that, the source is being imported."""

    def install(self) -> None:
        sys.addaudithook(self._audit)
        _watch_environment(self._environment)
        _watch_threads(lambda: self._tell("thread", _THREAD))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            if event == "import":
                self._imported(*arguments[:2])
            elif event in _EVENTS:
                self._tell(_EVENTS[event], _EVENTS[event])
            elif event in _FILES:
                self._opened(arguments[0])
        finally:
            self._busy = False

    def _imported(self, name: str, file: object) -> None:
        if isinstance(file, str):
            if _is_foreign(file):
                self._tell(
                    "native",
                    f"`{name}`, which is compiled for this machine: components can't load it",
                )
        elif self.running and not self._is_foreseen():
            self._tell(
                "import",
                f"`{name}` being imported while the skill runs: components have only the modules "
                "that were imported before; import it at the top of the file",
            )

    def _is_foreseen(self) -> bool:
        """Whether the build sees this import: as a statement of the author's, or in a module that
        it sees."""
        frame = sys._getframe(3)
        while frame.f_back and (
            frame.f_code.co_filename in _IMPORTING or frame.f_code.co_name == "<module>"
        ):
            frame = frame.f_back
        name = frame.f_code.co_filename
        line = linecache.getline(name, frame.f_lineno).lstrip()
        return self._author.owns(name) and line.startswith(("import ", "from "))

    def _opened(self, file: object) -> None:
        if not isinstance(file, str | bytes | os.PathLike):
            return  # a descriptor, or the current directory
        name = os.fsdecode(file)
        place = self._place(files=True)
        if place and not name.startswith("/dev/"):
            shown = Path(name).name
            self._warn_once("file", place, f"the file `{shown}`: components have no file system")

    def _environment(self, name: object) -> None:
        # Libraries look at many variables, and get along without; the author means it.
        frame = sys._getframe(2)
        while frame.f_back and frame.f_code.co_filename.startswith(_ENVIRONMENT):
            frame = frame.f_back
        if self._author.owns(frame.f_code.co_filename):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            self._warn_once(
                "environment",
                place,
                f"the environment variable `{name}`: components have an empty environment",
            )

    def _tell(self, kind: str, what: str) -> None:
        if place := self._place():
            self._warn_once(kind, place, what)

    def _warn_once(self, kind: str, place: str, what: str) -> None:
        if (kind, place) not in self._told:
            self._told.add((kind, place))
            self._warn(f"{place}: relies on {what}.")

    def _place(self, *, files: bool = False) -> str | None:
        """The author's innermost running line; none if Python itself is at work for it."""
        frame = sys._getframe(2)
        while frame:
            name = frame.f_code.co_filename
            if self._author.owns(name):
                return f"{name}:{frame.f_lineno}"
            if name.endswith(_DEBUGGING) or "/debugpy/" in name:
                return None
            if files and (name in _IMPORTING or name.endswith((*_TELLING, *_LOOKING))):
                return None
            if not frame.f_back:
                return None
            frame = frame.f_back
        return None


def _is_foreign(file: str) -> bool:
    """Whether a library belongs to a package that components can't have."""
    path = str(Path(file).resolve())
    if Path(file).parent.name in _AVAILABLE:
        return False
    return "site-packages" in path or not path.startswith(_LIBRARIES)


def _watch_environment(read: Callable[[object], None]) -> None:
    """``os.environ`` has no audit event for being read."""
    original = type(os.environ)

    class Watched(original):  # type: ignore[valid-type, misc]
        def __getitem__(self, key: Any) -> Any:
            read(key)
            return super().__getitem__(key)

    os.environ.__class__ = Watched


def _watch_threads(started: Callable[[], None]) -> None:
    """Starting one has no audit event before Python 3.12."""
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        started()
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]
