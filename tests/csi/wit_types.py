"""The types of the system calls as real components declare them, values of those types, and the
engine's own conversion of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import wasmtime
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect
from wasmtime import component as wit

from pharia_kernel.engine import binding, surface, values
from tools import build_skills

SKILLS = {"0.2": "greet_02", "0.3": "csi_tour", "0.4": "chat_04", "0.5": "stream_05"}
"""A skill of each line. Components that were built from Python import every function of their line;
that of 0.3 was built by the published SDK, with its own WIT texts."""

_CORE_MODULE = 1


@dataclass(frozen=True)
class Signature:
    parameters: list[wit.ValType]
    result: wit.ValType | None


@functools.cache
def declared(line: str) -> dict[str, Signature]:
    """Full function name -> what the line's component says it takes and returns."""
    skill = SKILLS[line]
    component = build_skills.build([skill])[skill].read_bytes()
    return dict(_functions(_imports_only(component)))


@functools.cache
def all_declared() -> dict[str, Signature]:
    return {name: types for line in SKILLS for name, types in declared(line).items()}


def _imports_only(component: bytes) -> bytes:
    """The component up to its first core module: valid in itself, and compiled in no time."""
    at = 8
    while component[at] != _CORE_MODULE:
        size, length = _unsigned(component, at + 1)
        at += 1 + length + size
    return component[:at]


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number, and how many bytes it takes."""
    value = length = 0
    while True:
        byte = data[at + length]
        value |= (byte & 0x7F) << (7 * length)
        length += 1
        if byte < 0x80:
            return value, length


def _functions(component: bytes) -> Iterator[tuple[str, Signature]]:
    engine = wasmtime.Engine()
    for interface, instance in wit.Component(engine, component).type.imports(engine).items():
        if not interface.startswith(surface.PACKAGE):
            continue
        assert isinstance(instance.ty, wit.ComponentInstanceType)
        for name, item in instance.ty.exports(engine).items():
            if isinstance(item.ty, wit.FuncType):
                yield f"{interface}#{name}", _signature(item.ty)


def _signature(type_: wit.FuncType) -> Signature:
    """Without handles of resources, which the engine keeps to itself."""
    parameters = [t for _, t in type_.params if not isinstance(t, wit.BorrowType)]
    result = type_.result
    return Signature(parameters, None if isinstance(result, wit.OwnType) else result)


# --- shapes ---------------------------------------------------------------------------------------

_SIMPLE: dict[type[wit.ValType], type[inspect.Type]] = {
    wit.Bool: inspect.BoolType,
    wit.U8: inspect.IntType,
    wit.U32: inspect.IntType,
    wit.U64: inspect.IntType,
    wit.S64: inspect.IntType,
    wit.F64: inspect.FloatType,
    wit.String: inspect.StrType,
}


def shape(type_: wit.ValType) -> Any:
    """The type in plain data: everything that msgspec can tell apart."""
    match type_:
        case wit.RecordType():
            return {name: shape(field) for name, field in type_.fields}
        case wit.VariantType():
            cases = {name: [] if t is None else [shape(t)] for name, t in type_.cases}
            return ("variant", cases)
        case wit.EnumType():
            return ("enum", sorted(type_.names))
        case wit.ListType():
            return (
                inspect.BytesType if isinstance(type_.element, wit.U8) else [shape(type_.element)]
            )
        case wit.OptionType():
            return ("option", shape(type_.payload))
    return _SIMPLE[type(type_)]


# --- values ---------------------------------------------------------------------------------------

_INTEGERS: dict[type[wit.ValType], tuple[int, int]] = {
    wit.U8: (0, 2**8 - 1),
    wit.U32: (0, 2**32 - 1),
    wit.U64: (0, 2**64 - 1),
    wit.S64: (-(2**63), 2**63 - 1),
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def data_of(type_: wit.ValType) -> SearchStrategy[Any]:
    """Values of a type in the form in which an engine sends them."""
    if bounds := _INTEGERS.get(type(type_)):
        return st.integers(*bounds)
    match type_:
        case wit.Bool():
            return st.booleans()
        case wit.F64():
            return st.floats()
        case wit.String():
            return texts
        case wit.EnumType():
            return st.sampled_from(type_.names)
        case wit.ListType():
            if isinstance(type_.element, wit.U8):
                return st.binary(max_size=8)
            return st.lists(data_of(type_.element), max_size=3)
        case wit.RecordType():
            return st.fixed_dictionaries({name: data_of(field) for name, field in type_.fields})
        case wit.VariantType():
            return st.one_of(
                [
                    st.tuples(st.just(name), st.none() if case is None else data_of(case)).map(list)
                    for name, case in type_.cases
                ]
            )
        case wit.OptionType():
            return st.none() | data_of(type_.payload)
    raise AssertionError(f"no function takes {type_}")


def without_empty_payloads(type_: wit.ValType, value: Any) -> Any:
    """The value with ``[case]`` for ``[case, None]``: all that a declaration keeps of it."""
    match type_:
        case wit.ListType() if not isinstance(type_.element, wit.U8):
            return [without_empty_payloads(type_.element, item) for item in value]
        case wit.RecordType():
            return {name: without_empty_payloads(t, value[name]) for name, t in type_.fields}
        case wit.VariantType():
            payload = dict(type_.cases)[value[0]]
            return value[:1] + ([] if payload is None else [_inner(payload, value[1])])
        case wit.OptionType() if value is not None:
            return without_empty_payloads(type_.payload, value)
    return value


_inner = without_empty_payloads


@dataclass(frozen=True)
class Place:
    """Where a value holds a name of its type's: a record's field, a variant's case, an enum."""

    container: Any
    key: Any
    is_field: bool = False

    def spoil(self) -> None:
        """Take the field away, or put in a name that there is not."""
        if self.is_field:
            del self.container[self.key]
        else:
            self.container[self.key] = "another"


def places(type_: wit.ValType, value: Any) -> Iterator[Place]:
    match type_:
        case wit.ListType() if not isinstance(type_.element, wit.U8):
            for i, item in enumerate(value):
                yield from _places_at(type_.element, value, i, item)
        case wit.RecordType():
            for name, field in type_.fields:
                yield Place(value, name, is_field=True)
                yield from _places_at(field, value, name, value[name])
        case wit.VariantType():
            yield Place(value, 0)
            payload = dict(type_.cases)[value[0]]
            if payload is not None:
                yield from _places_at(payload, value, 1, value[1])


def _places_at(type_: wit.ValType, container: Any, key: Any, value: Any) -> Iterator[Place]:
    if isinstance(type_, wit.OptionType):
        if value is not None:
            yield from _places_at(type_.payload, container, key, value)
    elif isinstance(type_, wit.EnumType):
        yield Place(container, key)
    else:
        yield from places(type_, value)


def through_the_engine(type_: wit.ValType, value: Any) -> Any:
    """The value as a guest gets it: lowered by the engine, and lifted again."""
    memory = binding.Values(1)
    try:
        values.lower_one(values.lowerer(type_), value, memory.address)
        return values.lift_one(values.lifter(type_), memory.address)
    finally:
        memory.delete()
