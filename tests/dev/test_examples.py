"""Inputs to start from, held against the schemas that they are made for."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from pharia_kernel.dev.engine import Described
from pharia_kernel.dev.examples import example_of
from pharia_kernel.dev.session import curl

NESTED = {
    "type": "object",
    "properties": {
        "who": {"$ref": "#/$defs/Person"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "optional": {"type": "string"},
    },
    "required": ["who", "tags", "note"],
    "$defs": {
        "Person": {
            "type": "object",
            "properties": {"age": {"type": "integer", "minimum": 18}},
            "required": ["age"],
        }
    },
}
RECURSIVE = {
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Node"}]},
            },
            "required": ["value", "next"],
        }
    },
    "$ref": "#/$defs/Node",
}


@pytest.mark.parametrize(
    "schema",
    [
        NESTED,
        RECURSIVE,
        {"type": "string"},
        {"type": ["null", "integer"]},
        {"const": 4},
        {"type": "string", "default": "b"},
        {"type": "string", "examples": ["a"]},
        {},
    ],
)
def test_examples_fit_their_schema(schema: dict[str, Any]) -> None:
    jsonschema_rs.validate(schema, example_of(schema))


def test_optional_members_are_left_out() -> None:
    assert example_of(NESTED) == {"who": {"age": 18}, "tags": ["a"], "note": None}


def test_references_that_lead_nowhere_end() -> None:
    endless = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert example_of(endless) is None
    assert example_of({"$ref": "#/nowhere/at/all"}) is None


def test_commands_are_quoted_for_the_shell() -> None:
    described = Described([], "message_stream", "0.4.0", b'{"const": "it\'s"}')
    command = curl("http://127.0.0.1:1", "dev", "story", described)
    assert command == (
        "curl -N http://127.0.0.1:1/v1/skills/dev/story/message-stream --json '\"it'\"'\"'s\"'"
    )
