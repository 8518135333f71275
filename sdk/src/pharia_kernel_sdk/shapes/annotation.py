"""Constraints and descriptions of values, and other names for types."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_origin

from pharia_kernel_sdk.shapes.base import Definitions, Path, Shape, shape_of


@dataclass(frozen=True)
class Field:
    """Describes and constrains a value: ``name: Annotated[str, Field(min_length=1)]``."""

    description: str | None = None
    title: str | None = None
    min_length: int | None = None
    """Of texts in characters, of lists and objects in items."""
    max_length: int | None = None
    """Of texts in characters, of lists and objects in items."""
    pattern: str | None = None
    """A regular expression that is found in the text."""
    ge: float | None = None
    """The smallest number."""
    gt: float | None = None
    """The number below the smallest."""
    le: float | None = None
    """The largest number."""
    lt: float | None = None
    """The number above the largest."""
    multiple_of: float | None = None
    examples: tuple[Any, ...] | None = None
    """Of values, for callers and models."""


class _Constrained(Shape):
    def __init__(self, shape: Shape, constraints: dict[str, Any], notes: dict[str, Any]) -> None:
        self._shape = shape
        self._constraints = constraints
        self._notes = notes
        self.expected = ", ".join([shape.expected, *self._spelled()])

    def _spelled(self) -> Iterator[str]:
        for name, limit in self._constraints.items():
            yield _CONSTRAINTS[name].spelled.format(limit)

    def load(self, value: Any, path: Path = ()) -> Any:
        loaded = self._shape.load(value, path)
        self._check(loaded, path)
        return loaded

    def dump(self, value: Any, path: Path = ()) -> Any:
        self._check(value, path)
        return self._shape.dump(value, path)

    def _check(self, value: Any, path: Path) -> None:
        for name, limit in self._constraints.items():
            try:
                fits = value is None or _CONSTRAINTS[name].holds(value, limit)
            except TypeError:
                fits = False
            if not fits:
                raise self.wrong(value, path)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        inner = self._shape.schema(definitions)
        kind = inner.get("type", "string")
        limits = {
            _CONSTRAINTS[name].keyword(kind): limit for name, limit in self._constraints.items()
        }
        return {**inner, **limits, **self._notes}


@dataclass(frozen=True)
class _Constraint:
    spelled: str
    holds: Callable[[Any, Any], bool]
    schema: str
    of_arrays: str | None = None
    of_objects: str | None = None

    def keyword(self, kind: str) -> str:
        other = {"array": self.of_arrays, "object": self.of_objects}.get(kind)
        return other or self.schema


_CONSTRAINTS = {
    "min_length": _Constraint(
        "at least {} long", lambda v, n: len(v) >= n, "minLength", "minItems", "minProperties"
    ),
    "max_length": _Constraint(
        "at most {} long", lambda v, n: len(v) <= n, "maxLength", "maxItems", "maxProperties"
    ),
    "pattern": _Constraint("that matches {}", lambda v, p: re.search(p, v) is not None, "pattern"),
    "ge": _Constraint("at least {}", lambda v, n: bool(v >= n), "minimum"),
    "gt": _Constraint("greater than {}", lambda v, n: bool(v > n), "exclusiveMinimum"),
    "le": _Constraint("at most {}", lambda v, n: bool(v <= n), "maximum"),
    "lt": _Constraint("less than {}", lambda v, n: bool(v < n), "exclusiveMaximum"),
    "multiple_of": _Constraint("a multiple of {}", lambda v, n: bool(v % n == 0), "multipleOf"),
}
_NOTES = ("title", "description", "examples")


def annotated(type_: Any) -> Shape | None:
    if get_origin(type_) is not Annotated:
        return None
    shape = shape_of(type_.__origin__)
    constraints: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for note in type_.__metadata__:
        if isinstance(note, str):
            notes["description"] = note
            continue
        constraints |= {n: v for n in _CONSTRAINTS if (v := getattr(note, n, None)) is not None}
        notes |= {n: v for n in _NOTES if (v := getattr(note, n, None)) is not None}
    if "examples" in notes:
        notes["examples"] = list(notes["examples"])
    return _Constrained(shape, constraints, notes)


def renamed(type_: Any) -> Shape | None:
    """``NewType``, and ``type X = ...`` of Python 3.12."""
    if isinstance(type_, typing.NewType):
        return shape_of(type_.__supertype__)
    alias = getattr(typing, "TypeAliasType", None)
    if alias is not None and isinstance(type_, alias):
        return shape_of(type_.__value__)
    return None
