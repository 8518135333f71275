"""How steps tell that they begin."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Gets what is being done, as it begins, and again with how far it has come."""

    def __call__(self, step: str, share: str = "", /) -> None: ...


def silent(step: str, share: str = "", /) -> None:
    """Tells nobody."""
