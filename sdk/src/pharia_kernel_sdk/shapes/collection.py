"""Lists, tuples, sets, dictionaries and unions."""

from __future__ import annotations

import types
from collections import abc
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

from pharia_kernel_sdk.shapes.base import (
    Definitions,
    Path,
    Shape,
    ShapeError,
    UnsupportedTypeError,
    shape_of,
)
from pharia_kernel_sdk.shapes.single import Enumerated, Spelled, Text


class _Items(Shape):
    expected = "a list"

    def __init__(self, make: type, item: Shape) -> None:
        self._make = make
        self._item = item

    def load(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, list | tuple):
            raise self.wrong(value, path)
        return self._make([self._item.load(item, (*path, i)) for i, item in enumerate(value)])

    def dump(self, value: Any, path: Path = ()) -> Any:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, abc.Iterable):
            raise self.wrong(value, path)
        return [self._item.dump(item, (*path, i)) for i, item in enumerate(value)]

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "array", "items": self._item.schema(definitions)}


class _Tuple(Shape):
    def __init__(self, items: list[Shape]) -> None:
        self._items = items
        self.expected = f"a list of {len(items)} items"

    def load(self, value: Any, path: Path = ()) -> Any:
        return tuple(self._each(value, path, "load"))

    def dump(self, value: Any, path: Path = ()) -> Any:
        return self._each(value, path, "dump")

    def _each(self, value: Any, path: Path, method: str) -> list[Any]:
        if not isinstance(value, list | tuple) or len(value) != len(self._items):
            raise self.wrong(value, path)
        return [
            getattr(shape, method)(item, (*path, i))
            for i, (shape, item) in enumerate(zip(self._items, value, strict=True))
        ]

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {
            "type": "array",
            "prefixItems": [item.schema(definitions) for item in self._items],
            "minItems": len(self._items),
            "maxItems": len(self._items),
        }


class _Map(Shape):
    expected = "an object"

    def __init__(self, key: Shape, item: Shape) -> None:
        self._key = key
        self._item = item

    def load(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, dict):
            raise self.wrong(value, path)
        return {
            self._key.load(key, (*path, key)): self._item.load(item, (*path, key))
            for key, item in value.items()
        }

    def dump(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, Mapping):
            raise self.wrong(value, path)
        return {
            self._key.dump(key, (*path, str(key))): self._item.dump(item, (*path, str(key)))
            for key, item in value.items()
        }

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": self._item.schema(definitions)}


_COLLECTIONS: dict[Any, type] = {
    list: list,
    abc.Sequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    set: set,
    abc.Set: set,
    frozenset: frozenset,
}


def collection(type_: Any) -> Shape | None:
    origin, arguments = get_origin(type_) or type_, get_args(type_)
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return _Tuple([shape_of(item) for item in arguments])
    if origin is tuple:
        return _Items(tuple, shape_of(arguments[0] if arguments else Any))
    if origin in (dict, abc.Mapping, abc.MutableMapping):
        key, item = arguments or (str, Any)
        if not isinstance(shape_of(key), Text | Enumerated | Spelled):
            raise UnsupportedTypeError(f"{type_} has keys that are no text, as JSON's must be.")
        return _Map(shape_of(key), shape_of(item))
    if isinstance(origin, abc.Hashable) and origin in _COLLECTIONS:
        return _Items(_COLLECTIONS[origin], shape_of(arguments[0] if arguments else Any))
    return None


class _Union(Shape):
    def __init__(self, members: list[Shape]) -> None:
        self._members = members
        self.expected = " or ".join(dict.fromkeys(member.expected for member in members))

    def load(self, value: Any, path: Path = ()) -> Any:
        return self._first(value, path, "load")

    def dump(self, value: Any, path: Path = ()) -> Any:
        return self._first(value, path, "dump")

    def _first(self, value: Any, path: Path, method: str) -> Any:
        """Of the member that fits; else the error of the member that came furthest."""
        errors: list[ShapeError] = []
        for member in self._members:
            try:
                return getattr(member, method)(value, path)
            except ShapeError as error:
                errors.append(error)
        deepest = max(errors, key=lambda error: len(error.path))
        others = [error for error in errors if len(error.path) > len(path)]
        if len(others) == 1:
            raise deepest
        raise self.wrong(value, path)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"anyOf": [member.schema(definitions) for member in self._members]}


def union(type_: Any) -> Shape | None:
    if get_origin(type_) not in (Union, types.UnionType):
        return None
    # An integer is a number, too: where both are possible, it stays what it is.
    members = sorted(get_args(type_), key=lambda member: member is float)
    return _Union([shape_of(member) for member in members])
