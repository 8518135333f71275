"""Requests are checked where they leave the skill: what comes after can only say less about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pharia_kernel_sdk.shapes import ShapeError, shape_of


def checked(type_: type, requests: Sequence[Any]) -> list[Any]:
    """The requests as JSON-like data. Raises ``TypeError`` if one has the wrong types inside."""
    shape = shape_of(type_)
    try:
        return [shape.dump(request) for request in requests]
    except ShapeError as error:
        raise TypeError(f"{type_.__name__} {error}") from None
