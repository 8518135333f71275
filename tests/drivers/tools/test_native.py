from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from pharia_kernel.csi.types import Argument, TextOutput
from pharia_kernel.drivers.tools.native import NATIVE_TOOLS
from pharia_kernel.errors import ToolFailed


def use(tool: str, **arguments: Any) -> list[TextOutput]:
    """Call with arguments that are JSON text (bytes) or values."""
    return NATIVE_TOOLS[tool].call(
        [
            Argument(name, Raw(value if isinstance(value, bytes) else msgspec.json.encode(value)))
            for name, value in arguments.items()
        ]
    )


def error_of(tool: str, **arguments: Any) -> str:
    with pytest.raises(ToolFailed) as caught:
        use(tool, **arguments)
    return caught.value.detail


def test_descriptions() -> None:
    integers = {
        "properties": {
            "a": {"title": "A", "type": "integer"},
            "b": {"title": "B", "type": "integer"},
        },
        "required": ["a", "b"],
        "type": "object",
    }
    described = {
        name: (tool.description.description, msgspec.json.decode(tool.description.input_schema))
        for name, tool in NATIVE_TOOLS.items()
    }
    assert described == {
        "add": ("Add two numbers", {**integers, "title": "addArguments"}),
        "subtract": ("Subtract two numbers", {**integers, "title": "subtractArguments"}),
        "saboteur": (
            "A tool that always raises an error.",
            {"properties": {}, "title": "saboteurArguments", "type": "object"},
        ),
    }
    assert {name: tool.description.name for name, tool in NATIVE_TOOLS.items()} == {
        name: name for name in NATIVE_TOOLS
    }


@given(a=st.integers(-(2**80), 2**80), b=st.integers(-(2**80), 2**80))
def test_sum_and_difference_of_any_integers(a: int, b: int) -> None:
    texts = {"a": str(a).encode(), "b": str(b).encode()}
    assert use("add", **texts) == [TextOutput(str(a + b))]
    assert use("subtract", **texts) == [TextOutput(str(a - b))]


def test_nothing_overflows_at_32_or_64_bits() -> None:
    assert use("add", a=2**31 - 1, b=1) == [TextOutput("2147483648")]
    assert use("subtract", a=-(2**31), b=1) == [TextOutput("-2147483649")]
    assert use("add", a=2**63 - 1, b=2**63) == [TextOutput(str(2**64 - 1))]


def test_further_arguments_and_their_order_do_not_matter() -> None:
    assert use("subtract", c="x", b=1, a=3) == [TextOutput("2")]


@pytest.mark.parametrize("tool", ["add", "subtract"])
@pytest.mark.parametrize(("given", "missing"), [({}, "a"), ({"b": 1}, "a"), ({"a": 1}, "b")])
def test_missing_argument_is_named(tool: str, given: dict[str, int], missing: str) -> None:
    assert error_of(tool, **given) == f"Argument {missing} not specified"


@pytest.mark.parametrize(
    "value",
    [True, None, "1", 1.5, [1], {}, b"", b"1 2", b"one", b'"\xff"', b"1e400", b"[" * 10_000],
)
@pytest.mark.parametrize("name", ["a", "b"])
def test_argument_of_the_wrong_type_is_named(name: str, value: Any) -> None:
    message = error_of("add", **{"a": 1, "b": 1, name: value})
    assert message.startswith(f"Argument {name} must be an integer: ")


def test_what_takes_too_long_to_write_down_is_refused() -> None:
    """Python converts at most 4300 digits, because that takes time quadratic in their number."""
    assert error_of("add", a=b"1" * 5000, b=1).startswith("Argument a must be an integer: ")
    assert error_of("add", a=b"9" * 4300, b=1).startswith("The result is too large: ")
    assert use("add", a=b"1" * 4300, b=1) == [TextOutput("1" * 4299 + "2")]


@pytest.mark.parametrize("arguments", [{}, {"a": 1}])
def test_saboteur(arguments: dict[str, int]) -> None:
    assert error_of("saboteur", **arguments) == "Out of cheese."
