"""Errors that are kept and told to more than one caller."""

from __future__ import annotations

import copy
from typing import Any

from pharia_kernel.errors import KernelError


def fresh(error: KernelError, **extra: Any) -> KernelError:
    """A copy to raise, with ``extra`` added where the error does not say otherwise.

    Raising one object again and again would grow its traceback, and ids written on a shared error
    would show one tenant's ids to another.
    """
    clone = copy.copy(error)
    clone.extra = {**extra, **error.extra}
    return clone


def printable(text: str, limit: int = 200) -> str:
    """The text cut to ``limit`` characters, with control characters escaped: fit for one line of a
    log.
    """
    text = text[:limit]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
