"""Tools that the skill's namespace offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pharia_kernel_sdk.csi.inference import Message

JsonSerializable = dict[str, Any] | list[Any] | str | int | float | bool | None
"""Any JSON value."""


@dataclass
class Tool:
    """What a skill or a model has to know to call a tool."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] = field(default_factory=dict)
    """JSON Schema of the arguments, which are an object."""
    strict: bool | None = None
    """Whether the model's provider enforces the schema."""


@dataclass
class InvokeRequest:
    """One call of a tool."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class ToolOutput:
    """What a tool returned, in parts."""

    contents: list[str]

    def text(self) -> str:
        """All parts, with a blank line between them."""
        return "\n\n".join(self.contents)

    def as_message(self, tool_call_id: str = "") -> Message:
        """The turn of the conversation that answers the tool call with that id."""
        from pharia_kernel_sdk.csi.inference import Message

        return Message.tool(self.text(), tool_call_id)


@dataclass
class ToolError(Exception):
    """A tool could not be called, or failed. The message is meant for a model, too."""

    message: str

    def __str__(self) -> str:
        return self.message


ToolResult = ToolOutput | ToolError
"""How a call of a tool ended."""
