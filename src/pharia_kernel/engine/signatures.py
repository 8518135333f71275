"""Whether the functions that a component exports are the ones that its world promises.

Types are compared by their structure, written as WIT without names for types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wasmtime import component as wit

from pharia_kernel.engine.api import ComponentInfo, ComponentKind

BYTES, TEXT = PAYLOADS = "list<u8>", "string"
"""What inputs, outputs and schemas are: in the skill's world, and after ``retype``."""

_ERROR = "variant { internal(string), invalid-input(string) }"


def _functions(payload: str) -> dict[str, str]:
    return {
        ComponentKind.FUNCTION: f"func({payload}) -> result<{payload}, {_ERROR}>",
        ComponentKind.MESSAGE_STREAM: f"func({payload}, own<stream-output>) -> result<_, {_ERROR}>",
        "metadata": (
            "func() -> record { description: option<string>, "
            f"input-schema: {payload}, output-schema: {payload} }}"
        ),
    }


ENTRIES_WITH_BYTES = frozenset(_functions(BYTES).values())
"""The types of all functions that a world can promise."""


class SignatureMismatch(Exception):
    """An exported function is missing or has another type."""


def checked(
    info: ComponentInfo, exports: Mapping[str, Any], payloads: Sequence[str] = PAYLOADS
) -> dict[str, wit.FuncType]:
    """The functions of the component's world, from the types in the interface that makes it a
    skill; raises ``SignatureMismatch``. ``payloads`` are the types that inputs, outputs and schemas
    may have."""
    types = [_functions(payload) for payload in payloads]
    expected = {"run": [type_[info.kind] for type_ in types]}
    if info.kind is ComponentKind.FUNCTION and info.line != "0.2":
        expected["metadata"] = [type_["metadata"] for type_ in types]
    return {name: _checked(name, exports.get(name), some) for name, some in expected.items()}


def _checked(name: str, found: Any, expected: list[str]) -> wit.FuncType:
    if not isinstance(found, wit.FuncType):
        raise SignatureMismatch(f"function `{name}` is missing")
    if (actual := _function(found)) not in expected:
        raise SignatureMismatch(f"`{name}` is `{actual}`, expected `{expected[0]}`")
    return found


def _function(type_: wit.FuncType) -> str:
    parameters = ", ".join(_name(parameter) for _, parameter in type_.params)
    result = "" if type_.result is None else f" -> {_name(type_.result)}"
    return f"func({parameters}){result}"


def _name(type_: wit.ValType | None) -> str:
    match type_:
        case None:
            return "_"
        case wit.ListType():
            return f"list<{_name(type_.element)}>"
        case wit.OptionType():
            return f"option<{_name(type_.payload)}>"
        case wit.ResultType():
            return f"result<{_name(type_.ok)}, {_name(type_.err)}>"
        case wit.RecordType():
            fields = ", ".join(f"{name}: {_name(field)}" for name, field in type_.fields)
            return f"record {{ {fields} }}"
        case wit.VariantType():
            cases = ", ".join(
                name if case is None else f"{name}({_name(case)})" for name, case in type_.cases
            )
            return f"variant {{ {cases} }}"
        case wit.OwnType():
            # Which resource it is shows when the instance is made: only one can be handed over.
            return "own<stream-output>"
    return type(type_).__name__.removesuffix("Type").lower()
