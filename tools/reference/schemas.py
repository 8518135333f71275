"""Schemas of OpenAPI 3.0 in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tools.reference import markdown as md

_WORDS = {"string": "text", "array": "list"}
_MANY = {"string": "texts", "integer": "integers", "number": "numbers", "object": "objects"}
_LIMITS = {"minimum": "at least {}", "maximum": "at most {}", "pattern": "`{}`"}
_LARGEST_LIMIT = 2**31
"""Limits above it only say how many bits there are."""


def spelled(schema: dict[str, Any]) -> str:
    """The type in words, such as ``list of [`Tool`](#tool)``."""
    if "$ref" in schema:
        return md.link(_name(schema))
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return " or ".join(dict.fromkeys(spelled(each) for each in alternatives))
    words = [_choice(schema) if "enum" in schema else _kind(schema)]
    if schema.get("nullable") and "null" not in words[0]:
        words.append("or null")
    return " ".join(words)


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, bool, str, str]]:
    """Path, type, whether it is required, default and description of all members. Those of nested
    objects have paths such as ``spans[].name``."""
    required = schema.get("required", [])
    for name, member in schema.get("properties", {}).items():
        place = f"{path}{name}"
        default = f"`{json.dumps(member['default'])}`" if "default" in member else ""
        description = md.line(member.get("description", ""))
        yield place, spelled(member), name in required, default, description
        yield from fields(member, f"{place}.")
        yield from fields(member.get("items", {}), f"{place}[].")


def _name(schema: dict[str, Any]) -> str:
    name: str = schema["$ref"].rpartition("/")[2]
    return name


def _choice(schema: dict[str, Any]) -> str:
    values = [value for value in schema["enum"] if value is not None]
    return " or ".join([f"`{json.dumps(value)}`" for value in values] or ["null"])


def _kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if kind is None:
        return "any JSON"
    if kind == "array":
        return f"list of {_many(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object whose values are {_many(schema['additionalProperties'])}"
    limits = ", ".join(_limits(schema))
    return f"{_WORDS.get(kind, kind)} ({limits})" if limits else str(_WORDS.get(kind, kind))


def _many(schema: dict[str, Any]) -> str:
    if set(schema) <= {"type", "properties", "required"} and schema.get("type") in _MANY:
        return _MANY[schema["type"]]
    return spelled(schema)


def _limits(schema: dict[str, Any]) -> Iterator[str]:
    for name, form in _LIMITS.items():
        limit = schema.get(name)
        if isinstance(limit, str) or (limit is not None and abs(limit) < _LARGEST_LIMIT):
            yield form.format(limit)
    if "minLength" in schema or "maxLength" in schema:
        yield f"{schema.get('minLength', 0)} to {schema.get('maxLength', 'any')} long"
