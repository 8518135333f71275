"""The last runs of skills, as the kernel remembers them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from pharia_kernel_sdk.publishing.errors import KernelError
from pharia_kernel_sdk.publishing.kernel import Kernel

_PAUSE = 1.0
"""Seconds between two questions."""
_NOT_FOUND = 404
_MOST = 1000
"""As many as a kernel tells at once."""


def last_runs(kernel: Kernel, skill: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """In detail, oldest first. Raises ``KernelError``."""
    yield from _in_detail(kernel, reversed(kernel.runs(skill, limit)))


def follow(kernel: Kernel, skill: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """The last runs that have ended, and from then on each when it has. Raises ``KernelError``."""
    known = kernel.runs(skill, _MOST)
    shown = {run["id"] for run in known[limit:] if _ended(run)}
    while True:
        new = [run for run in reversed(known) if _ended(run) and run["id"] not in shown]
        yield from _in_detail(kernel, new)
        shown = {run["id"] for run in known if _ended(run)}
        time.sleep(_PAUSE)
        known = kernel.runs(skill, _MOST)


def _ended(run: dict[str, Any]) -> bool:
    return run["outcome"] is not None


def _in_detail(kernel: Kernel, runs: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Without those that the kernel has dropped meanwhile."""
    for run in runs:
        try:
            yield kernel.run(run["id"])
        except KernelError as error:
            if error.status != _NOT_FOUND:
                raise
