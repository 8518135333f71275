"""Gives the functions of generated bindings (componentize-py) bodies, which make system calls.

In a component the bindings' types are lowered to what the engine sees; here the same is done by
their annotations: a record becomes a map with the WIT names, a variant ``[case, payload]``, an enum
its case's name.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, Union, get_args, get_origin

Convert = Callable[[Any], Any]

_HUMP = re.compile(r"(?<!^)(?=[A-Z])")
_SCALARS = {int: int, str: str, bool: bool, bytes: bytes, float: float}


class Host(Protocol):
    """Where system calls go."""

    def call(self, function: str, arguments: list[Any]) -> Any:
        """The answer."""

    def open(self, function: str, arguments: list[Any]) -> int:
        """A handle, at once."""

    def next(self, function: str, handle: int) -> Any:
        """The next event of a stream; None at its end."""

    def drop(self, function: str, handle: int) -> None: ...

    def write(self, item: Any) -> None:
        """To the message stream; waits if the caller reads more slowly than the skill writes."""


def bind(module: ModuleType, interface: str, host: Host) -> None:
    """Binds a module of bindings to an interface, such as ``pharia:skill/tool@0.4.0``."""
    for name, item in list(vars(module).items()):
        if getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(item):
            setattr(module, name, _function(item, f"{interface}#{_kebab(name)}", host))
        elif inspect.isclass(item) and "next" in vars(item):
            _bind_stream(item, interface, host)
        elif inspect.isclass(item) and "write" in vars(item):
            _bind_output(item, host)


def _function(stub: Callable[..., Any], name: str, host: Host) -> Callable[..., Any]:
    @functools.cache
    def converters() -> tuple[list[Convert], Convert]:
        return _converters(stub)

    @functools.wraps(stub)
    def call(*arguments: Any) -> Any:
        lower, lift = converters()
        plain = [convert(value) for convert, value in zip(lower, arguments, strict=True)]
        return lift(host.call(name, plain))

    return call


def _bind_stream(class_: Any, interface: str, host: Host) -> None:
    resource = _kebab(_HUMP.sub("_", class_.__name__))
    start, next_event = class_.__init__, class_.next

    @functools.cache
    def converters() -> tuple[Convert, Convert]:
        (lower,), _ = _converters(start)
        return lower, _converters(next_event)[1]

    def init(self: Any, request: Any) -> None:
        lower, _ = converters()
        self.handle = host.open(f"{interface}#[constructor]{resource}", [lower(request)])

    def next_(self: Any) -> Any:
        _, lift = converters()
        return lift(host.next(f"{interface}#[method]{resource}.next", self.handle))

    def exit_(self: Any, *_: object) -> None:
        host.drop(f"{interface}#[drop]{resource}", self.handle)

    class_.__init__, class_.next, class_.__exit__ = init, next_, exit_


def _bind_output(class_: Any, host: Host) -> None:
    ((lower,), _) = _converters(class_.write)
    class_.write = lambda _, item: host.write(lower(item))
    class_.__exit__ = lambda *_: None


def _converters(stub: Any) -> tuple[list[Convert], Convert]:
    """For the arguments, without ``self``, and for the result."""
    hints = typing.get_type_hints(stub)
    result = hints.pop("return", type(None))
    return [lowering(hint) for hint in hints.values()], lifting(result)


# --- from the bindings' types ---------------------------------------------------------------------


def lowering(type_: Any) -> Convert:
    """To plain values. Raises ``TypeError`` for types that no WIT type becomes."""
    if type_ in _SCALARS:
        return float if type_ is float else _same
    members = _members(type_)
    if members is not None:
        return _lower_union(members)
    if get_origin(type_) is list:
        (item,) = get_args(type_)
        lower = lowering(item)
        return lambda values: [lower(value) for value in values]
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return lambda member: _kebab(member.name)
    if dataclasses.is_dataclass(type_):
        return _lower_case(type_) if _is_case(type_) else _lower_record(type_)
    raise TypeError(f"{type_!r} is no type of a component")


def _lower_union(members: list[Any]) -> Convert:
    some = [m for m in members if m is not type(None)]
    if len(some) < len(members):
        lower_some = lowering(_one_of(some))
        return lambda value: None if value is None else lower_some(value)
    cases = {member: _lower_case(member) for member in some}
    return lambda value: cases[type(value)](value)


def _lower_case(class_: Any) -> Convert:
    name = _case_name(class_)
    fields = _fields(class_)
    if not fields:
        return lambda _: [name, None]
    lower = lowering(fields["value"])
    return lambda value: [name, lower(value.value)]


def _lower_record(class_: Any) -> Convert:
    fields = [(name, _kebab(name), lowering(hint)) for name, hint in _fields(class_).items()]
    return lambda record: {wit: lower(getattr(record, name)) for name, wit, lower in fields}


# --- to the bindings' types -----------------------------------------------------------------------


def lifting(type_: Any) -> Convert:
    """From plain values. Raises ``TypeError`` for types that no WIT type becomes."""
    if type_ in _SCALARS or type_ is type(None):
        return _same
    members = _members(type_)
    if members is not None:
        return _lift_union(members)
    if get_origin(type_) is list:
        (item,) = get_args(type_)
        lift = lifting(item)
        return lambda values: [lift(value) for value in values]
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        by_name = {_kebab(name): member for name, member in type_.__members__.items()}
        return by_name.__getitem__
    if dataclasses.is_dataclass(type_):
        return _lift_union([type_]) if _is_case(type_) else _lift_record(type_)
    raise TypeError(f"{type_!r} is no type of a component")


def _lift_union(members: list[Any]) -> Convert:
    some = [m for m in members if m is not type(None)]
    if len(some) < len(members):
        lift_some = lifting(_one_of(some))
        return lambda value: None if value is None else lift_some(value)
    cases = {_case_name(get_origin(m) or m): _lift_case(m) for m in some}
    return lambda value: cases[value[0]](value[1] if len(value) > 1 else None)


def _lift_case(class_: Any) -> Convert:
    if get_origin(class_):  # Ok[T] or Err[T]
        lift_result = lifting(get_args(class_)[0])
        return lambda value: get_origin(class_)(lift_result(value))
    fields = _fields(class_)
    if not fields:
        return lambda _: class_()
    lift = lifting(fields["value"])
    return lambda value: class_(lift(value))


def _lift_record(class_: Any) -> Convert:
    fields = [(name, _kebab(name), lifting(hint)) for name, hint in _fields(class_).items()]
    return lambda record: class_(**{name: lift(record[wit]) for name, wit, lift in fields})


# --- names and types ------------------------------------------------------------------------------


def _members(type_: Any) -> list[Any] | None:
    return list(get_args(type_)) if get_origin(type_) in (Union, types.UnionType) else None


def _one_of(members: list[Any]) -> Any:
    return functools.reduce(lambda some, other: some | other, members)


def _fields(class_: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(class_)
    return {field.name: hints[field.name] for field in dataclasses.fields(class_)}


def _kebab(name: str) -> str:
    """Of ``snake_case`` or ``SNAKE_CASE``; what Python reserves has an underscore at its end."""
    return name.rstrip("_").lower().replace("_", "-")


def _is_case(class_: Any) -> bool:
    """Bindings name the cases of variants ``Variant_Case``, and nothing else with an underscore."""
    return "_" in class_.__name__


def _case_name(class_: Any) -> str:
    """``json-object`` of ``ResponseFormat_JsonObject``."""
    name = class_.__name__.rstrip("_").rpartition("_")[2]
    return _HUMP.sub("-", name).lower()


def _same(value: Any) -> Any:
    return value
