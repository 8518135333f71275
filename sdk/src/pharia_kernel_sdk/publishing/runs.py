"""The last runs of skills, as the kernel remembers them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pharia_kernel_sdk.publishing.kernel import Kernel

_PAUSE = 1.0
"""Seconds between two questions."""
_MOST = 1000
"""As many as a kernel tells at once."""


def last_runs(kernel: Kernel, skill: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """In detail, oldest first. Raises ``KernelError``."""
    for run in reversed(kernel.runs(skill, limit)):
        yield kernel.run(run["id"])


def follow(kernel: Kernel, skill: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """The last runs that have ended, and from then on each when it has. Raises ``KernelError``."""
    shown: set[str] = set()
    while True:
        known = kernel.runs(skill, _MOST if shown else limit)
        for run in reversed(known):
            if run["outcome"] is not None and run["id"] not in shown:
                shown.add(run["id"])
                yield kernel.run(run["id"])
        shown &= {run["id"] for run in known} or shown
        time.sleep(_PAUSE)
