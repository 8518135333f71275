"""Programs that are built from source once for each pinned version and kept in ``.toolchains/``."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TOOLCHAINS = Path(__file__).resolve().parents[1] / ".toolchains"


class ToolUnavailable(Exception):
    """A tool is not there and can't be had; the message says why and what to do."""


def built_once(executable: Path, build: Callable[[Path], Path]) -> Path:
    """``executable``, which ``build`` makes if it is not there yet.

    ``build`` gets an empty folder beside it and returns the program in there. Several processes may
    ask at the same time: one builds, the others wait.
    """
    if executable.exists():
        return executable
    home = executable.parent
    with locked(home / f"{executable.name}.lock"):
        if not executable.exists():
            with tempfile.TemporaryDirectory(dir=home) as folder:
                build(Path(folder)).rename(executable)
    return executable


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """While others wait; ``how`` is ``LOCK_SH`` for what several may do at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield
