"""``breakpoint()`` in a skill: pdb on the terminal that ``pharia-kernel dev`` was started on."""

from __future__ import annotations

import fcntl
import io
import pdb
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TextIO

_TERMINAL = Path("/dev/tty")

Hold = Callable[[bool], None]
"""Told when the terminal is needed, and when it is free again."""


class TerminalDebugger(pdb.Pdb):
    """Talks to the terminal, whatever became of the standard streams."""

    def __init__(self, terminal: TextIO, hold: Hold) -> None:
        super().__init__(stdin=terminal, stdout=terminal)
        self._hold = hold

    def interaction(self, frame: FrameType | None, traceback: TracebackType | None) -> None:
        self._hold(True)
        try:
            super().interaction(frame, traceback)
        finally:
            self._hold(False)


def install(lock: Path | None, hold: Hold, warn: Callable[[str], None]) -> None:
    """Makes ``breakpoint()`` work. Runs that come to one while another is being debugged wait for
    ``lock``; without a lock there is no terminal."""
    debugger: list[TerminalDebugger] = []
    kept: list[TextIO] = []

    def hook(*_: Any, **__: Any) -> None:
        if lock is None:
            caller = sys._getframe(1)
            place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
            warn(f"{place}: breakpoint() is passed over: there is no terminal to debug on.")
            return
        if not debugger:
            handle = lock.open("w")
            fcntl.flock(handle, fcntl.LOCK_EX)  # until this process ends
            kept.append(handle)
            debugger.append(TerminalDebugger(_open_terminal(), hold))
        debugger[0].set_trace(sys._getframe(1))

    sys.breakpointhook = hook


def _open_terminal() -> TextIO:
    # Not "r+": a terminal can't seek, which Python wants of what is read and written.
    raw = _TERMINAL.open("r+b", buffering=0)
    return io.TextIOWrapper(io.BufferedRWPair(raw, raw), line_buffering=True)  # type: ignore[type-var]
