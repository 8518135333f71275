"""What the OpenAPI document says of the CSI. Shapes come from the types that are decoded and
encoded."""

from __future__ import annotations

from typing import Any

import msgspec

from pharia_kernel.shell.csi import legacy
from pharia_kernel.shell.csi.examples import LEGACY_REQUEST, requests_and_answers
from pharia_kernel.shell.csi.functions import VERSIONS, Batch, Call, Function, Stream
from pharia_kernel.shell.csi.preferences import KEEP_ALIVE
from pharia_kernel.shell.openapi import answer, problem_answer, ref

_PREFIX = "Csi"
"""Of the names of the schemas: what the CSI calls a tool is not what ``/v1/tools`` calls one."""
_REF = f"#/components/schemas/{_PREFIX}{{name}}"
_ITEM = f"{_PREFIX}Item"
_SUMMARIES = {
    "chat": "Generate chat messages",
    "chat_stream": "Generate a chat message and stream it",
    "chunk": "Split texts into chunks",
    "chunk_with_offsets": "Split texts into chunks that know their places",
    "complete": "Complete prompts",
    "completion_stream": "Complete a prompt and stream it",
    "documents": "Read documents",
    "document_metadata": "Read the metadata of documents",
    "explain": "Explain completions",
    "invoke_tool": "Call tools of a namespace",
    "list_tools": "List the tools of a namespace",
    "search": "Search in document indexes",
    "select_language": "Tell the languages of texts",
}
_PROBLEMS = {
    400: "The body is not JSON.",
    401: "A bearer token is missing.",
    403: "The bearer token does not allow this.",
    404: "There is no such model, document or namespace.",
    413: "The body is too large.",
    415: "The body is not declared as JSON, or is compressed in an unsupported way.",
    422: "The request has the wrong shape, or asks for what cannot be done; `errors` say where.",
    429: "Too many requests.",
    500: "The kernel has a bug.",
    502: "The service behind the function failed.",
    503: "The service behind the function is not configured, or not available at the moment.",
    504: "The service behind the function took too long.",
}


def paths() -> dict[str, Any]:
    described = {
        f"/csi/{version}/{name}": {"post": _operation(version, name, function)}
        for version, functions in VERSIONS.items()
        for name, function in functions.items()
    }
    return described | {legacy.PATH: {"post": _legacy_operation()}}


def schemas() -> dict[str, Any]:
    """The components to which ``paths`` refers."""
    _, components = msgspec.json.schema_components(_types(), ref_template=_REF)
    described = {_PREFIX + name: _openapi_3_0(schema) for name, schema in components.items()}
    return described | {_ITEM: _item()}


def _item() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "What became of one request of a batch, if `item-errors` are preferred.",
        "properties": {"ok": {}, "error": ref("Problem")},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }


def _types() -> list[Any]:
    functions = [function for version in VERSIONS.values() for function in version.values()]
    answers = [function.answer for function in functions if isinstance(function, Call)]
    return [function.body for function in functions] + answers


def _schema(of: Any) -> Any:
    (schema,), _ = msgspec.json.schema_components([of], ref_template=_REF)
    return _openapi_3_0(schema)


def _openapi_3_0(schema: Any) -> Any:
    """A JSON Schema of msgspec as OpenAPI 3.0 knows it: without the type `null`, without an empty
    `required`."""
    if isinstance(schema, list):
        return [_openapi_3_0(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _openapi_3_0(value) for key, value in schema.items()}
    if schema.get("required") == []:
        del schema["required"]
    if schema.get("type") == "null":
        return _NULL
    if _NULL in schema.get("anyOf", []):
        return _nullable(schema)
    return schema


_NULL = {"type": "object", "nullable": True, "enum": [None]}
"""`nullable` adds null to a `type`, and nothing to a reference: so null is an alternative."""


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    others = [option for option in schema.pop("anyOf") if option != _NULL]
    if others == [{}]:
        return schema  # anything, null included
    if len(others) == 1 and "type" in others[0]:
        return {**schema, **others[0], "nullable": True}
    return {**schema, "anyOf": [*others, _NULL]}


# --- operations -----------------------------------------------------------------------------------


def _operation(version: str, name: str, function: Function) -> dict[str, Any]:
    asked, answered = requests_and_answers(version)[name]
    operation = {
        "tags": ["csi"],
        "operationId": f"csi_{version}_{name}",
        "summary": _SUMMARIES[name],
        "description": _description(function),
        "requestBody": _body(_schema(function.body), asked),
        "responses": {"200": _answer(version, function, answered), **_problems()},
        "security": [{"api_token": []}],
    }
    if version == "v2" and isinstance(function, Stream):
        operation["parameters"] = [_PREFER_KEEP_ALIVE]
    elif version == "v2" and isinstance(function, Batch):
        operation["parameters"] = [_PREFER_ITEM_ERRORS]
    return operation


def _description(function: Function) -> str:
    if isinstance(function, Stream):
        return (
            "One request. A failure before the first event is a problem response; a later one is "
            "the last event, `error`: a problem object with a `message`. Disconnecting cancels."
        )
    if isinstance(function, Batch):
        return (
            "A list of requests, which are handled at the same time; the answers are in their "
            "order. Disconnecting cancels."
        )
    return "Disconnecting cancels."


def _answer(version: str, function: Function, example: Any) -> dict[str, Any]:
    if isinstance(function, Stream):
        return answer("The events.", "text/event-stream", {"type": "string"}, example)
    schema = _schema(function.answer)
    if version == "v2" and isinstance(function, Batch):
        schema = {"anyOf": [schema, {"type": "array", "items": ref(_ITEM)}]}
    return answer("The answer.", "application/json", schema, example)


def _body(schema: Any, example: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"required": True, "content": content}


def _problems() -> dict[str, Any]:
    answers = {str(status): problem_answer(text) for status, text in _PROBLEMS.items()}
    return answers | {"default": problem_answer("Anything else that can go wrong.")}


def _preference(description: str, example: str) -> dict[str, Any]:
    return {
        "name": "Prefer",
        "in": "header",
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


_PREFER_ITEM_ERRORS = _preference(
    "`item-errors`: a request that fails does not fail the others. Each is answered with an object "
    "that has either `ok`, the answer, or `error`, a problem object.",
    "item-errors",
)
_PREFER_KEEP_ALIVE = _preference(
    "`keep-alive=SECONDS`: a comment is sent whenever nothing else was for so long, so that no "
    f"proxy cuts the connection. Without a number, {KEEP_ALIVE} seconds.",
    "keep-alive=15",
)


def _legacy_operation() -> dict[str, Any]:
    names = {version: sorted(functions) for version, functions in legacy.FUNCTIONS.items()}
    listed = "; ".join(f"{version}: {', '.join(found)}" for version, found in names.items())
    schema = {
        "type": "object",
        "properties": {
            "version": {"type": "string", "enum": sorted(names)},
            "function": {"type": "string", "enum": sorted({n for v in names.values() for n in v})},
        },
        "required": ["version", "function"],
        "additionalProperties": True,
    }
    return {
        "tags": ["csi"],
        "operationId": "csi_legacy",
        "summary": "Call a function of the first CSI",
        "description": "For clients that were built before `/csi/v1`. The members beside `version` "
        "and `function` are the arguments: in 0.2 those of one request, in 0.3 `requests`, a list "
        f"as `/csi/v1` takes it. Functions of {listed}.",
        "deprecated": True,
        "requestBody": _body(schema, LEGACY_REQUEST),
        "responses": {
            "200": answer("What the function answers.", "application/json", {}, ["Hello"]),
            **_problems(),
        },
        "security": [{"api_token": []}],
    }
