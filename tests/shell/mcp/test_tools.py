"""How skills look as MCP tools."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from pharia_kernel.errors import InvalidInput
from pharia_kernel.shell.mcp.tools import SkillTool, described, function_result, stream_result
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import SkillInfo, SkillKind, SkillMetadata, SkillStatus

OBJECT = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
SHARED = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {"City": {"type": "string"}},
    "type": "array",
    "items": {"$ref": "#/$defs/City"},
}
TREE = {"type": "array", "items": {"$ref": "#"}}


def tool_of(input_schema: Any, output_schema: Any = None) -> SkillTool:
    info = SkillInfo(path=SkillPath("dev", "greet"), status=SkillStatus.READY)
    schemas = [
        None if schema is None else Raw(json.dumps(schema).encode())
        for schema in (input_schema, output_schema)
    ]
    return described(info, SkillMetadata("Greets.", "0.4", SkillKind.FUNCTION, *schemas))


def test_an_object_is_the_arguments() -> None:
    skill = tool_of(OBJECT, OBJECT)
    assert (skill.tool.name, skill.tool.description) == ("greet", "Greets.")
    assert skill.tool.input_schema == skill.tool.output_schema == OBJECT
    assert json.loads(skill.body({"name": "Ada"})) == {"name": "Ada"}
    assert skill.body(None) == b"{}"


@pytest.mark.parametrize("schema", [{"type": "string"}, True, None])
def test_any_other_input_is_an_argument(schema: Any) -> None:
    skill = tool_of(schema, {"type": "string"})
    inner = skill.tool.input_schema["properties"]["input"]
    assert inner == (schema if isinstance(schema, dict) else {})
    assert skill.tool.input_schema["required"] == ["input"]
    assert skill.tool.output_schema is None
    assert skill.body({"input": ["x"]}) == b'["x"]'


@pytest.mark.parametrize("arguments", [None, {}, {"name": "x"}, {"input": 1, "more": 2}])
def test_the_argument_must_be_there(arguments: Any) -> None:
    with pytest.raises(InvalidInput, match="`input`"):
        tool_of({"type": "string"}).body(arguments)


def test_references_still_lead_somewhere() -> None:
    schema = tool_of(SHARED).tool.input_schema
    assert schema["$schema"] == SHARED["$schema"]
    assert schema["$defs"] == SHARED["$defs"]
    assert schema["properties"]["input"] == {"type": "array", "items": {"$ref": "#/$defs/City"}}


def test_a_schema_that_can_not_be_moved_is_left_out() -> None:
    assert tool_of(TREE).tool.input_schema["properties"] == {"input": {}}


def test_a_skill_without_metadata_takes_anything() -> None:
    info = SkillInfo(
        path=SkillPath("dev", "old"), status=SkillStatus.READY, kind=SkillKind.MESSAGE_STREAM
    )
    skill = described(info, None)
    assert skill.streams
    assert skill.tool.input_schema["properties"] == {"input": {}}


@pytest.mark.parametrize(
    ("output", "text", "structured"),
    [
        (b'"Hello"', "Hello", None),
        (b"[1,2]", "[1,2]", None),
        (b'{"a":1}', '{"a":1}', {"a": 1}),
    ],
)
def test_results(output: bytes, text: str, structured: Any) -> None:
    result = function_result(output)
    assert [part.text for part in result.content] == [text]  # type: ignore[union-attr]
    assert result.structured_content == structured


def test_a_stream_is_its_messages_and_its_last_payload() -> None:
    result = stream_result(["Hello", "World"], Raw(b'{"n":2}'))
    assert [part.text for part in result.content] == ["Hello", "World"]  # type: ignore[union-attr]
    assert result.structured_content == {"n": 2}


def test_a_number_beyond_those_of_python_is_text() -> None:
    result = function_result(b'{"a":1e999}')
    assert (result.content[0].text, result.structured_content) == ('{"a":1e999}', None)  # type: ignore[union-attr]
