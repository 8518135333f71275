"""An input that fits a JSON Schema, for people to start from."""

from __future__ import annotations

from typing import Any

_DEEPEST = 5
_BY_TYPE: dict[str, Any] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
    "array": [],
    "object": {},
}


def example_of(schema: Any) -> Any:
    """Required members only, where the schema says which; the smallest thing else."""
    return _example(schema, schema, 0)


def _example(schema: Any, whole: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "$ref" in schema:
        return _example(_resolved(schema["$ref"], whole), whole, depth + 1)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _example(schema[key][0], whole, depth + 1)
    return _of_type(schema, whole, depth)


def _of_type(schema: dict[str, Any], whole: Any, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        members = schema.get("properties", {})
        required = schema.get("required", [])
        return {name: _example(members.get(name), whole, depth + 1) for name in required}
    if kind == "array" and schema.get("minItems"):
        return [_example(schema.get("items"), whole, depth + 1)]
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return _BY_TYPE.get(kind or "")


def _resolved(reference: str, whole: Any) -> Any:
    """References within the document, as both SDKs write them."""
    found = whole
    for step in reference.removeprefix("#").strip("/").split("/"):
        if not isinstance(found, dict):
            return None
        found = found.get(step) if step else found
    return found
