"""Values that are one value in JSON, too."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections import abc
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from pharia_kernel_sdk.shapes.base import (
    Definitions,
    Path,
    Shape,
    ShapeError,
    UnsupportedTypeError,
    shown,
)


class _Null(Shape):
    expected = "null"

    def load(self, value: Any, path: Path = ()) -> Any:
        if value is not None:
            raise self.wrong(value, path)
        return None

    dump = load

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "null"}


class _Bool(Shape):
    expected = "true or false"

    def load(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, bool):
            raise self.wrong(value, path)
        return value

    dump = load

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "boolean"}


class _Int(Shape):
    expected = "an integer"

    def load(self, value: Any, path: Path = ()) -> Any:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(value, path)
        return value

    dump = load

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "integer"}


class _Float(Shape):
    expected = "a number"

    def load(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong(value, path)
        return float(value)

    dump = load

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "number"}


class Text(Shape):
    expected = "a text"

    def load(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, str):
            raise self.wrong(value, path)
        return value

    def dump(self, value: Any, path: Path = ()) -> Any:
        return str(self.load(value, path))

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "string"}


class Spelled(Shape):
    """Values that JSON has as text."""

    def __init__(
        self, type_: type, read: Callable[[str], Any], write: Callable[[Any], str], format_: str
    ) -> None:
        self._type = type_
        self._read = read
        self._write = write
        self._format = format_
        self.expected = f"a text of the format {format_}"

    def load(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, str):
            raise self.wrong(value, path)
        try:
            return self._read(value)
        except ValueError:
            raise self.wrong(value, path) from None

    def dump(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, self._type):
            raise ShapeError(path, f"a {self._type.__name__}", shown(value))
        return self._write(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "string", "format": self._format}


class Enumerated(Shape):
    """A literal or an enum."""

    def __init__(self, members: dict[str, Any], values: list[Any], name: str | None) -> None:
        self._by_value = list(zip(values, members.values(), strict=True))
        self._values = values
        self._name = name
        self.expected = "one of " + ", ".join(map(repr, values))

    def load(self, value: Any, path: Path = ()) -> Any:
        for known, member in self._by_value:
            if known == value and type(known) is type(value):
                return member
        raise self.wrong(value, path)

    def dump(self, value: Any, path: Path = ()) -> Any:
        for known, member in self._by_value:
            if member is value or (member == value and type(member) is type(value)):
                return known
        raise self.wrong(value, path)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        kinds = {_SCHEMA_KINDS[type(value)] for value in self._values}
        schema: dict[str, Any] = {"enum": self._values}
        if len(kinds) == 1:
            schema["type"] = kinds.pop()
        return schema


_SCHEMA_KINDS = {
    str: "string",
    int: "integer",
    bool: "boolean",
    type(None): "null",
    float: "number",
}

_SINGLE: dict[Any, Shape] = {
    Any: Shape(),
    object: Shape(),
    None: _Null(),
    type(None): _Null(),
    bool: _Bool(),
    int: _Int(),
    float: _Float(),
    str: Text(),
    dt.datetime: Spelled(
        dt.datetime, dt.datetime.fromisoformat, dt.datetime.isoformat, "date-time"
    ),
    dt.date: Spelled(dt.date, dt.date.fromisoformat, dt.date.isoformat, "date"),
    dt.time: Spelled(dt.time, dt.time.fromisoformat, dt.time.isoformat, "time"),
    uuid.UUID: Spelled(uuid.UUID, uuid.UUID, str, "uuid"),
}


def single(type_: Any) -> Shape | None:
    return _SINGLE.get(type_) if isinstance(type_, abc.Hashable) else None


def enumerated(type_: Any) -> Shape | None:
    if get_origin(type_) is Literal:
        values = [v.value if isinstance(v, enum.Enum) else v for v in get_args(type_)]
        return Enumerated({repr(v): v for v in get_args(type_)}, values, None)
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        members = dict(type_.__members__)
        values = [member.value for member in members.values()]
        if not all(type(value) in _SCHEMA_KINDS for value in values):
            raise UnsupportedTypeError(f"{type_.__qualname__} has values that JSON does not have.")
        return Enumerated(members, values, type_.__name__)
    return None
