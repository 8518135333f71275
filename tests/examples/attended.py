"""A tool that serves until Ctrl-C, as somebody at a terminal sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 500.0
"""Seconds; the first run of all makes the image that skills are built from."""
_STOPS_WITHIN = 60.0


@contextmanager
def attended(tool: str, directory: Path, environ: Mapping[str, str], serves: str) -> Iterator[str]:
    """What the module ``tool`` has printed once it printed ``serves``. Ctrl-C ends it."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", tool],
        cwd=directory,
        env=environ,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    os.close(theirs)
    # It stops its kernel, which a kill would leave behind.
    watchdog = threading.Timer(PATIENCE, process.terminate)
    watchdog.start()
    try:
        assert process.stdout
        printed = ""
        while serves not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        yield printed
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=_STOPS_WITHIN)
        assert process.returncode == 0, rest
    finally:
        watchdog.cancel()
        process.terminate()
        try:
            process.communicate(timeout=_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours)
