"""Entry point of the command: as the first thing, SIGTERM ends the process.

A container's first process ignores every signal that it has no handler for, and importing the rest
takes a moment. Without this, a container that is stopped while it starts waits for its SIGKILL.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command ``pharia-kernel``."""
    signal.signal(signal.SIGTERM, _end)
    from pharia_kernel.cli import main as command

    command()


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
