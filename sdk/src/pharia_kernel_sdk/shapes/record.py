"""Dataclasses and TypedDicts."""

from __future__ import annotations

import contextlib
import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

from pharia_kernel_sdk.shapes.base import (
    Definitions,
    Path,
    Shape,
    ShapeError,
    UnsupportedTypeError,
    shape_of,
    shown,
)

_NO_DEFAULT: Any = object()


@dataclass(frozen=True)
class _Property:
    name: str
    shape: Shape
    required: bool
    default: Any = _NO_DEFAULT


class Record(Shape):
    """A dataclass or a TypedDict."""

    def __init__(self, type_: Any, properties: list[_Property], name: str) -> None:
        self.type = type_
        self.name = name
        self._properties = properties
        self._is_dict = not dataclasses.is_dataclass(type_)
        self.expected = f"an object ({name})"

    def load(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, dict):
            raise self.wrong(value, path)
        loaded = {}
        for property_ in self._properties:
            name = property_.name
            if name in value:
                loaded[name] = property_.shape.load(value[name], (*path, name))
            elif property_.required:
                raise ShapeError((*path, name), property_.shape.expected, "nothing")
        if self._is_dict:
            return loaded
        try:
            return self.type(**loaded)
        except ShapeError:
            raise
        except (ValueError, TypeError) as error:  # raised by the author's __post_init__
            raise ShapeError(path, f"a valid {self.name}", f"{shown(value)} ({error})") from error

    def dump(self, value: Any, path: Path = ()) -> Any:
        if not isinstance(value, dict if self._is_dict else self.type):
            raise ShapeError(path, f"a {self.name}", shown(value))
        dumped = {}
        for property_ in self._properties:
            name = property_.name
            if not self._is_dict:
                dumped[name] = property_.shape.dump(getattr(value, name), (*path, name))
            elif name in value:
                dumped[name] = property_.shape.dump(value[name], (*path, name))
            elif property_.required:
                raise ShapeError((*path, name), property_.shape.expected, "nothing")
        return dumped

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        name = definitions.name_for(self.type, self.name)
        if name not in definitions:
            definitions[name] = {}
            definitions[name].update(self._schema(definitions))
        return {"$ref": f"#/$defs/{name}"}

    def _schema(self, definitions: Definitions) -> dict[str, Any]:
        properties = {}
        for property_ in self._properties:
            schema = property_.shape.schema(definitions)
            if property_.default is not _NO_DEFAULT:
                with contextlib.suppress(ShapeError):  # a default that input could not have
                    schema = {**schema, "default": property_.shape.dump(property_.default)}
            properties[property_.name] = schema
        required = [property_.name for property_ in self._properties if property_.required]
        schema = {"type": "object", "title": self.name, "properties": properties}
        if required:
            schema["required"] = required
        if description := _description(self.type):
            schema["description"] = description
        return schema


def _description(type_: Any) -> str | None:
    """The docstring, unless it is the one that ``dataclass`` makes of the signature."""
    text: str | None = type_.__doc__
    if not text or text.startswith(f"{type_.__name__}("):
        return None
    return " ".join(text.split())


def dataclass_record(type_: Any) -> Shape | None:
    origin = get_origin(type_) or type_
    if not (isinstance(origin, type) and dataclasses.is_dataclass(origin)):
        return None
    hints = _hints(origin)
    arguments = get_args(type_)
    known = dict(zip(getattr(origin, "__parameters__", ()), arguments, strict=False))
    properties = [
        _property(field, shape_of(_substituted(hints[field.name], known)))
        for field in dataclasses.fields(origin)
        if field.init
    ]
    name = "".join([origin.__name__, *(f"_{getattr(a, '__name__', a)}" for a in arguments)])
    return Record(origin, properties, name)


def _property(field: dataclasses.Field[Any], shape: Shape) -> _Property:
    if field.default is not dataclasses.MISSING:
        return _Property(field.name, shape, False, field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _Property(field.name, shape, False, field.default_factory())
    return _Property(field.name, shape, True)


def _substituted(hint: Any, known: Mapping[Any, Any]) -> Any:
    """The hint with types for the type variables of a generic dataclass."""
    if isinstance(hint, TypeVar):
        return known.get(hint, Any)
    free = getattr(hint, "__parameters__", ())
    return hint[tuple(known.get(variable, Any) for variable in free)] if free else hint


def typed_dict(type_: Any) -> Shape | None:
    if not typing.is_typeddict(type_):
        return None
    properties = []
    for name, hint in _hints(type_).items():
        # Of annotations that are texts, the class itself could not tell.
        required = name in type_.__required_keys__
        while get_origin(hint) in _REQUIREDNESS:
            required = get_origin(hint) is typing.Required
            (hint,) = get_args(hint)
        properties.append(_Property(name, shape_of(hint), required))
    return Record(type_, properties, type_.__name__)


_REQUIREDNESS = {typing.Required, typing.NotRequired}


def _hints(type_: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(type_, include_extras=True)
    except NameError as error:
        raise UnsupportedTypeError(
            f"{type_.__qualname__} has a field whose type is not defined in its module: {error}."
        ) from None
