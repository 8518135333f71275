"""A bash that is typed into."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs.output import clean

PATIENCE = 300.0
"""Seconds. The first build of a skill on a machine makes an image, the longest that there is."""
_END = "--- end of command "


class Stuck(Exception):
    """A command neither ended nor printed what was waited for."""


class Terminal:
    """Commands share folder, variables and functions; output and errors come together, as one sees
    them. There is no pseudo-terminal behind it, so nothing asks or paints."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a Ctrl-C reaches all that it started
        )
        self._scripts = tempfile.TemporaryDirectory(prefix="terminal-")
        self._output = bytearray()
        self._closed = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._begin = 0
        self._running = False
        self._type("trap : INT")  # a Ctrl-C is for the command, not for this bash

    # --- commands

    def start(self, command: str) -> None:
        """Type a command, without waiting for its end."""
        script = Path(self._scripts.name, "command")
        script.write_text(command + "\n")
        with self._changed:
            self._begin = len(self._output)
        self._running = True
        self._type(f'. "{script}" </dev/null; printf "\\n{_END}%d\\n" $?')

    def run(self, command: str) -> tuple[str, int]:
        """Output and exit status of a command. Raises ``Stuck``."""
        self.start(command)
        return self.finish()

    def finish(self) -> tuple[str, int]:
        """The same of the one that was started."""
        printed = self.wait(lambda text: _END in text and text.endswith("\n"), "the end")
        self._running = False
        output, status = printed.rsplit(_END, 1)
        return output, int(status)

    def interrupt(self) -> tuple[str, int] | None:
        """Ctrl-C, if something runs; what it has printed then, and its status."""
        if not self._running:
            return None
        os.killpg(self._process.pid, signal.SIGINT)
        return self.finish()

    def wait(self, condition: Callable[[str], bool], what: str) -> str:
        """The output of the command as soon as it is as expected. Raises ``Stuck``."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not condition(text := self.printed):
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    reason = "the terminal was closed" if self._closed else f"{PATIENCE:.0f} s"
                    raise Stuck(f"waiting for {what}: {reason}. It printed:\n{text}")
                self._changed.wait(left)
        return text

    @property
    def printed(self) -> str:
        """What the command has printed so far."""
        return clean(self._output[self._begin :].decode("utf-8", "replace"))

    @property
    def has_ended(self) -> bool:
        """Whether the command that was started is over."""
        return _END in self.printed

    # --- the process

    def close(self) -> None:
        """Whatever still runs in it is killed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if stream:
                    stream.close()
        self._scripts.cleanup()

    def _type(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        while block := os.read(self._process.stdout.fileno(), 65536):
            with self._changed:
                self._output += block
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
