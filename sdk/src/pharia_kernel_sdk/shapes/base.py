"""What all shapes have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, get_origin

Path = tuple[str | int, ...]


class Definitions(dict[str, dict[str, Any]]):
    """JSON Schemas of types with a name."""

    def __init__(self) -> None:
        super().__init__()
        self._owners: dict[str, Any] = {}

    def name_for(self, type_: Any, name: str) -> str:
        """The type's own name, unless another type has it already."""
        if self._owners.setdefault(name, type_) is type_:
            return name
        return f"{type_.__module__}.{name}"


_LONGEST_SHOWN = 80


class ShapeError(ValueError):
    """A value does not have its shape. ``path`` leads to it; ``expected`` says what belongs
    there."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        self.path = path
        self.expected = expected
        super().__init__(f"{spelled(path)}: expected {expected}, got {found}")


class UnsupportedTypeError(TypeError):
    """A type has no JSON form that this module knows."""


def spelled(path: Path) -> str:
    """A JSONPath such as ``$.messages[0].role``."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "$" + "".join(steps)


def shown(value: Any) -> str:
    """A JSON value in an error: what it is, and the beginning of it."""
    text = "null" if value is None else repr(value)
    kind = _KINDS.get(type(value), type(value).__name__)
    if len(text) > _LONGEST_SHOWN:
        text = text[:_LONGEST_SHOWN] + "..."
    return text if value is None or isinstance(value, bool) else f"{kind} {text}"


_KINDS = {str: "the text", int: "the number", float: "the number", list: "the list", dict: "object"}


class Shape:
    """What a type is as JSON."""

    expected = "any value"

    def load(self, value: Any, path: Path = ()) -> Any:
        """The value of the type. Raises ``ShapeError``."""
        return value

    def dump(self, value: Any, path: Path = ()) -> Any:
        """The JSON value. Raises ``ShapeError`` where the value is not of the type."""
        return value

    def load_json(self, document: bytes) -> Any:
        """The value of the type. Raises ``ShapeError``, and ``ValueError`` for what is no JSON."""
        return self.load(json.loads(document))

    def dump_json(self, value: Any) -> bytes:
        """JSON in UTF-8. Raises ``ShapeError``, and ``ValueError`` for numbers that are none."""
        text = json.dumps(self.dump(value), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "surrogatepass")

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        """JSON Schema (2020-12). Types with a name go to ``definitions``."""
        return {}

    def wrong(self, value: Any, path: Path) -> ShapeError:
        return ShapeError(path, self.expected, shown(value))


def shape_of(type_: Any) -> Shape:
    """The shape of a type. Raises ``UnsupportedTypeError``."""
    try:
        return _shape_of_hashable(type_)
    except TypeError as error:
        if isinstance(error, UnsupportedTypeError):
            raise
        return _make(type_)


MAKERS: list[Callable[[Any], Shape | None]] = []
"""Each makes the shapes of some types; the first that knows a type is asked."""

_known: dict[Any, Shape] = {}


def _shape_of_hashable(type_: Any) -> Shape:
    # ``1`` and ``True`` are equal, and so are Literals of them: those must not share a shape.
    key = (type_, repr(type_)) if get_origin(type_) is Literal else type_
    if key not in _known:
        _known[key] = _Later(type_)
        try:
            _known[key] = _make(type_)
        except BaseException:
            del _known[key]
            raise
    return _known[key]


def _make(type_: Any) -> Shape:
    for make in MAKERS:
        shape = make(type_)
        if shape is not None:
            return shape
    raise UnsupportedTypeError(
        f"{getattr(type_, '__qualname__', type_)!s} has no JSON form. Use dataclasses, TypedDicts, "
        "lists, dictionaries with text keys, text, numbers, bool, None, enums, dates, or pydantic "
        "models."
    )


class _Later(Shape):
    """Stands for a type while its shape is made: types may contain themselves."""

    def __init__(self, type_: Any) -> None:
        self.type = type_

    def load(self, value: Any, path: Path = ()) -> Any:
        return shape_of(self.type).load(value, path)

    def dump(self, value: Any, path: Path = ()) -> Any:
        return shape_of(self.type).dump(value, path)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return shape_of(self.type).schema(definitions)
