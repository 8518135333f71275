"""``breakpoint()`` in a skill: pdb on the terminal that ``pharia-kernel dev`` was started on, or a
debugger that attaches by the Debug Adapter Protocol (debugpy).

Only one run is debugged at a time. Others that come to a breakpoint wait for it.
"""

from __future__ import annotations

import fcntl
import importlib
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
Break = Callable[[FrameType], None]
"""Stops at a frame."""


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


class Breakpoints:
    """Makes ``breakpoint()`` work in this process, which has one run."""

    def __init__(self, lock: Path, terminal: bool, port: int | None) -> None:
        """``terminal``: whether there is one. ``port``: where a debugger can attach."""
        self._lock = lock
        self._terminal = terminal
        self._port = port
        self._held: TextIO | None = None
        self._break: Break | None = None

    def install(self, hold: Hold, tell: Callable[[str], None]) -> None:
        def hook(*_: Any, **__: Any) -> None:
            frame = sys._getframe(1)
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            if self._port is None and not self._terminal:
                tell(f"{place}: breakpoint() is passed over: there is no terminal to debug on.")
                return
            if self._break is None:
                self._wait_for_others()
                self._break = self._remote(place, tell) if self._port else _local(hold)
            self._break(frame)

        sys.breakpointhook = hook

    def _wait_for_others(self) -> None:
        self._held = self._lock.open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX)  # until this process ends

    def _remote(self, place: str, tell: Callable[[str], None]) -> Break:
        debugpy = importlib.import_module("debugpy")
        debugpy.listen(("127.0.0.1", self._port))
        tell(f"{place}: waits for a debugger to attach at 127.0.0.1:{self._port}")
        debugpy.wait_for_client()
        api = importlib.import_module("pydevd")

        def stop(frame: FrameType) -> None:
            api.settrace(stop_at_frame=frame, suspend=True)

        return stop


def _local(hold: Hold) -> Break:
    # Not "r+": a terminal can't seek, which Python wants of what is read and written.
    raw = _TERMINAL.open("r+b", buffering=0)
    pair = io.BufferedRWPair(raw, raw)
    terminal = io.TextIOWrapper(pair, line_buffering=True)  # type: ignore[type-var]
    return TerminalDebugger(terminal, hold).set_trace
