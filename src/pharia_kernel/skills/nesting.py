"""How deeply JSON may be nested where libraries walk it on the C stack."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

MAX_DEPTH = 250
"""Arrays and objects inside each other. The validator refuses schemas that are a little deeper, and
tens of thousands of levels, which Python 3.14 reads, overflow its stack."""


def is_too_deep(value: Any) -> bool:
    """Whether more than ``MAX_DEPTH`` arrays and objects are nested."""
    level = _containers([value])
    for _ in range(MAX_DEPTH):
        if not level:
            break
        inner = (v.values() if isinstance(v, dict) else v for v in level)
        level = _containers(chain.from_iterable(inner))
    return bool(level)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]
