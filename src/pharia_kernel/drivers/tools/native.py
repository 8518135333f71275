"""Tools that are part of the kernel, for trying things out."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw

from pharia_kernel.csi.types import Argument, TextOutput, Tool
from pharia_kernel.errors import ToolFailed


class NativeTool(msgspec.Struct, frozen=True):
    description: Tool
    call: Callable[[list[Argument]], list[TextOutput]]


def _schema(name: str, *integers: str) -> Raw:
    properties = {field: {"title": field.upper(), "type": "integer"} for field in integers}
    schema: dict[str, object] = {"properties": properties}
    if integers:
        schema["required"] = list(integers)
    return Raw(msgspec.json.encode({**schema, "title": f"{name}Arguments", "type": "object"}))


def _integer(arguments: list[Argument], name: str) -> int:
    for argument in arguments:
        if argument.name == name:
            try:
                return msgspec.json.decode(argument.value, type=int)
            except msgspec.MsgspecError as error:
                raise ToolFailed(f"Argument {name} must be an integer: {error}.") from None
    raise ToolFailed(f"Argument {name} not specified")


def _binary(operation: Callable[[int, int], int]) -> Callable[[list[Argument]], list[TextOutput]]:
    def call(arguments: list[Argument]) -> list[TextOutput]:
        result = operation(_integer(arguments, "a"), _integer(arguments, "b"))
        try:
            return [TextOutput(str(result))]
        except ValueError as error:  # Python's limit of digits, which bounds what a call can cost
            raise ToolFailed(f"The result is too large: {error}.") from None

    return call


def _sabotage(_arguments: list[Argument]) -> list[TextOutput]:
    raise ToolFailed("Out of cheese.")


NATIVE_TOOLS: dict[str, NativeTool] = {
    tool.description.name: tool
    for tool in (
        NativeTool(
            Tool("add", "Add two numbers", _schema("add", "a", "b")), _binary(lambda a, b: a + b)
        ),
        NativeTool(
            Tool("subtract", "Subtract two numbers", _schema("subtract", "a", "b")),
            _binary(lambda a, b: a - b),
        ),
        NativeTool(
            Tool("saboteur", "A tool that always raises an error.", _schema("saboteur")), _sabotage
        ),
    )
}
