"""Skills as MCP tools: descriptions, arguments and results.

Tools take an object of named arguments and may return an object beside text; skills take and return
any JSON. https://modelcontextprotocol.io/specification/2025-11-25/server/tools
"""

from __future__ import annotations

import re
from typing import Any

import mcp_types as types
import msgspec
from msgspec import Raw, Struct

from pharia_kernel.errors import InvalidInput
from pharia_kernel.shell.gathering import value_of
from pharia_kernel.skills.types import SkillInfo, SkillKind, SkillMetadata

INPUT = "input"
"""The only argument of a skill whose input is no object."""
_SHARED = ("$schema", "$defs", "definitions")
"""Parts of a schema that stay at its root."""
_REFERENCE = re.compile(rb'"\$(?:dynamic|recursive)?[rR]ef"\s*:\s*"(?!#/(?:\$defs|definitions)/)')
"""One that would lead somewhere else if its schema were moved into another."""


class SkillTool(Struct, frozen=True):
    """A skill that can be called as a tool."""

    info: SkillInfo
    streams: bool
    tool: types.Tool
    wrapped: bool
    """The skill's input is the value of the argument ``INPUT``."""

    def body(self, arguments: dict[str, Any] | None) -> bytes:
        """The input of the skill as JSON. Raises ``InvalidInput``."""
        given = arguments or {}
        if not self.wrapped:
            return msgspec.json.encode(given)
        if set(given) != {INPUT}:
            names = ", ".join(given) or "none"
            raise InvalidInput(f"Expected one argument, `{INPUT}`, not: {names}.")
        return msgspec.json.encode(given[INPUT])


def described(info: SkillInfo, metadata: SkillMetadata | None) -> SkillTool:
    """The skill as a tool. Without metadata, or without a schema, its input may be anything."""
    input_schema = _schema(metadata.input_schema if metadata else None)
    wrapped = input_schema is None or input_schema.get("type") != "object"
    tool = types.Tool(
        name=info.path.name,
        description=metadata.description if metadata else None,
        input_schema=_wrapped(metadata) if input_schema is None or wrapped else input_schema,
        output_schema=_output_schema(metadata),
    )
    return SkillTool(info, _kind(info, metadata) is SkillKind.MESSAGE_STREAM, tool, wrapped)


def function_result(output: bytes) -> types.CallToolResult:
    """What a function returned."""
    value = value_of(output)
    text = value if isinstance(value, str) else output.decode()
    return _result([text], value)


def stream_result(messages: list[str], payload: Raw) -> types.CallToolResult:
    """Texts of the messages of a stream, and the payload of the last one."""
    return _result(messages, value_of(payload))


def error_result(text: str) -> types.CallToolResult:
    """For the model to read, which may know what to do about it."""
    return types.CallToolResult(content=[_text(text)], is_error=True)


def _result(texts: list[str], value: Any) -> types.CallToolResult:
    structured = value if isinstance(value, dict) else None
    return types.CallToolResult(
        content=[_text(text) for text in texts], structured_content=structured
    )


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _kind(info: SkillInfo, metadata: SkillMetadata | None) -> SkillKind | None:
    return metadata.skill_type if metadata else info.kind


def _schema(raw: Raw | None) -> dict[str, Any] | None:
    schema = None if raw is None else msgspec.json.decode(raw)
    return schema if isinstance(schema, dict) else None


def _output_schema(metadata: SkillMetadata | None) -> dict[str, Any] | None:
    schema = _schema(metadata.output_schema if metadata else None)
    return schema if schema and schema.get("type") == "object" else None


def _wrapped(metadata: SkillMetadata | None) -> dict[str, Any]:
    """The schema of an object with the skill's input in it."""
    raw = metadata.input_schema if metadata else None
    schema = _schema(raw)
    if raw is None or schema is None or _REFERENCE.search(bytes(raw)):
        schema = {}
    shared = {key: schema.pop(key) for key in _SHARED if key in schema}
    return {**shared, "type": "object", "properties": {INPUT: schema}, "required": [INPUT]}
