"""The OpenAPI document: FastAPI's part, the hot routes, and the shapes that both refer to.

It is OpenAPI 3.0, because the Swagger UI that is installed with the kernel reads no later version.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Path
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from pharia_kernel.errors import Fixer
from pharia_kernel.shell.problems import MEDIA_TYPE as PROBLEM
from pharia_kernel.skills.paths import NAMESPACE_MAX_LENGTH, NAMESPACE_PATTERN
from pharia_kernel.skills.types import (
    NamespaceState,
    SkillKind,
    SkillStatus,
    SkillType,
    VersionState,
)

TITLE = "pharia-kernel"
_VERSION = "3.0.3"
_DESCRIPTION = (
    "Runs AI skills: sandboxed WebAssembly components that get inference, retrieval and tools from "
    "the kernel. Every error is a problem object (RFC 9457)."
)
_TAGS = [
    {"name": "skills", "description": "List, inspect and run skills."},
    {
        "name": "gateways",
        "description": "Skills for clients that know other protocols: MCP, and OpenAI's chat API.",
    },
    {"name": "tools", "description": "What skills can call."},
    {
        "name": "csi",
        "description": "The system calls that skills make, for programs outside of the kernel: "
        "inference, retrieval, chunking, language selection and tools.",
    },
    {"name": "operations", "description": "For those who run the kernel."},
    {
        "name": "docs",
        "description": "This documentation and the interface that skills are built for.",
    },
]

NamespaceParameter = Annotated[
    str,
    Path(
        description="The skill's namespace.",
        json_schema_extra={
            "pattern": NAMESPACE_PATTERN,
            "minLength": 1,
            "maxLength": NAMESPACE_MAX_LENGTH,
            "example": "dev",
        },
    ),
]
SkillNameParameter = Annotated[
    str, Path(description="The skill's name.", json_schema_extra={"example": "greet"})
]

_PROBLEMS = {
    400: "The request is wrong, or the skill rejects its input or fails on it.",
    401: "The bearer token is missing or invalid.",
    403: "The bearer token does not allow this.",
    404: "There is no such skill, namespace or version.",
    409: "The skill is of the other kind: use `/message-stream` instead of `/run`, or the reverse.",
    413: "The body is too large.",
    415: "The body is not declared as JSON, or is compressed in an unsupported way.",
    422: "The input does not match the skill's own schema.",
    429: "Too many runs at once.",
    500: "The skill has a bug or cannot be loaded, or the kernel has a bug.",
    502: "A service that the skill needs failed.",
    503: "The skill, or something that it needs, is not available at the moment.",
    504: "The run, or a service that it needs, took too long.",
}
_RUN_PROBLEMS = tuple(_PROBLEMS)


def json_response(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def json_answer(description: str, schema: str, example: Any) -> dict[str, Any]:
    """A response whose JSON has the named schema."""
    return answer(description, "application/json", ref(schema), example)


def text_answer(description: str, media_type: str, example: str) -> dict[str, Any]:
    return answer(description, media_type, {"type": "string"}, example)


def problem_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses for these statuses, and for all that are not listed at all."""
    answers: dict[int | str, dict[str, Any]] = {
        status: problem_answer(_PROBLEMS[status]) for status in statuses
    }
    return answers | {"default": problem_answer("Anything else that can go wrong.")}


def document(resources: FastAPI, paths: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The document of the routes of ``resources``, of the hot routes of skills, and of ``paths``,
    which refer to ``schemas``."""
    described = get_openapi(
        title=resources.title,
        version=resources.version,
        openapi_version=_VERSION,
        description=_DESCRIPTION,
        license_info={"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        tags=_TAGS,
        routes=resources.routes,
    )
    described["paths"] |= _hot_paths() | paths
    described["paths"] = dict(sorted(described["paths"].items()))
    described["components"].setdefault("schemas", {}).update(_schemas() | schemas)
    return described


def answer(description: str, media_type: str, schema: Any, example: Any) -> dict[str, Any]:
    content = {media_type: {"schema": schema, "example": example}}
    return {"description": description, "content": content}


def problem_answer(description: str) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM: {"schema": ref("Problem")}}}


def ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


# --- the hot routes -------------------------------------------------------------------------------


def _hot_paths() -> dict[str, Any]:
    output = answer("What the skill returned.", "application/json", {}, "Hello Ada")
    events = answer(
        "The events of the run. A failure comes as the last event, `error`: a problem object with "
        "a `message`.",
        "text/event-stream",
        {"type": "string"},
        'event: message\ndata: {"type":"begin"}\n\n'
        'event: message\ndata: {"type":"append","text":"Hello"}\n\n'
        'event: message\ndata: {"type":"end","payload":null}\n\n',
    )
    return {
        "/v1/skills/{namespace}/{name}/run": _hot_path(
            "run_skill", "Run a skill", "Run a function skill on a JSON value.", output
        ),
        "/v1/skills/{namespace}/{name}/message-stream": _hot_path(
            "message_stream_skill",
            "Run a skill and stream its messages",
            "Run a message stream skill on a JSON value. `message` events have the `type` begin, "
            "append or end; `reasoning` events carry the model's reasoning; `tool` events say what "
            "happens to a tool call.",
            events,
        ),
    }


def _hot_path(operation_id: str, summary: str, description: str, answer: Any) -> dict[str, Any]:
    operation = {
        "tags": ["skills"],
        "operationId": operation_id,
        "summary": summary,
        "description": f"{description} Disconnecting cancels the run.",
        "parameters": [
            path_parameter("namespace", "The skill's namespace.", ref("Namespace"), "dev"),
            path_parameter("name", "The skill's name.", {"type": "string"}, "greet"),
        ],
        "requestBody": {
            "required": True,
            "description": "The skill's input: any JSON value that the skill understands.",
            "content": {"application/json": {"schema": {}, "example": {"name": "Ada"}}},
        },
        "responses": {
            "200": answer,
            **{str(status): body for status, body in problem_answers(*_RUN_PROBLEMS).items()},
        },
        "security": [{"api_token": []}],
    }
    return {"post": operation}


def path_parameter(name: str, description: str, schema: Any, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema,
        "example": example,
    }


# --- the shapes -----------------------------------------------------------------------------------


def _schemas() -> dict[str, Any]:
    return {
        "Namespace": {
            "type": "string",
            "pattern": NAMESPACE_PATTERN,
            "minLength": 1,
            "maxLength": NAMESPACE_MAX_LENGTH,
        },
        "SkillPath": _text("`namespace/name`", example="dev/greet"),
        "SkillPathList": _list_of(ref("SkillPath")),
        "SkillInfo": _object(**_skill_info()),
        "SkillDetail": _object(**_skill_info(), history=_list_of(ref("VersionRecord"))),
        "VersionRecord": _version_record(),
        "SkillListing": {"oneOf": [ref("SkillPathList"), _list_of(ref("SkillInfo"))]},
        "SkillMetadata": _skill_metadata(),
        "Tool": _object(
            name=_text(),
            description=_text(),
            input_schema={"type": "object", "description": "JSON Schema of the tool's input."},
        ),
        "ToolList": _list_of(ref("Tool")),
        "McpServerList": _list_of(_text(format="uri")),
        "NamespaceSummary": _object(**_namespace_summary()),
        "NamespaceList": _list_of(ref("NamespaceSummary")),
        "NamespaceDetail": _object(
            **_namespace_summary(),
            skills=_list_of(ref("SkillDetail")),
            tools=ref("ToolList"),
            mcp_servers=ref("McpServerList"),
        ),
        "RunList": _list_of(_object(**_run_summary())),
        "RunDetail": _run_detail(),
        "TracesAnswer": {"type": "object", "description": "`ExportTraceServiceResponse` of OTLP."},
        "RefreshAnswer": {"type": "string"},
        "CacheAnswer": {"type": "string"},
        "Readiness": _readiness(),
        "Problem": _problem(),
    }


def _skill_info() -> dict[str, Any]:
    return {
        "path": ref("SkillPath"),
        "status": _text(enum=list(SkillStatus)),
        "type": _text("What the namespace says that it is.", enum=list(SkillType)),
        "kind": _text("How it is run.", nullable=True, enum=[*SkillKind, None]),
        "wit_version": _text("Version of `pharia:skill` that it is built for.", nullable=True),
        "description": _text(
            "What the component says that it does; the beginning, if that is long. Components of "
            "other toolchains say so in their metadata only.",
            nullable=True,
        ),
        "digest": _text("SHA-256 of the component that serves.", nullable=True),
        "size": {"type": "integer", "nullable": True, "description": "Bytes of that component."},
        "sandboxed": {
            "type": "boolean",
            "description": "False for a source that is served in development mode.",
        },
        "updating_to": _text("Digest of the component that is being prepared.", nullable=True),
        "error": _problem_object("Says why the newest component cannot serve."),
        "tag": _text("As configured.", nullable=True),
        "manifest_digest": _text("Of the serving artifact, in OCI registries.", nullable=True),
        "signed_by": _text("Who signed the serving artifact.", nullable=True),
        "generation": {
            "type": "integer",
            "nullable": True,
            "description": "Grows whenever the skill is configured anew or evicted.",
        },
        "state": _text("Of the newest version.", nullable=True, enum=[*VersionState, None]),
        "since": _time("When the newest version got into its state."),
        "settings": _skill_settings() | {"nullable": True},
        "last_check": _time("When the registry last told what it has."),
        "next_attempt": _time("When what failed is tried again by itself."),
    }


def _skill_settings() -> dict[str, Any]:
    limits = "; without it, the kernel's limit holds."
    return _object(
        run_timeout={"type": "number", "nullable": True, "description": f"Seconds{limits}"},
        memory_limit={"type": "integer", "nullable": True, "description": f"Bytes{limits}"},
        max_runs={"type": "integer", "nullable": True, "description": f"Runs at once{limits}"},
        allowed_tools={
            **_list_of(_text()),
            "nullable": True,
            "description": "The tools that exist for the skill; without it, all of the namespace.",
        },
    )


def _version_record() -> dict[str, Any]:
    return _object(
        digest=_text("SHA-256 of the component."),
        manifest_digest=_text("Of the artifact, in OCI registries.", nullable=True),
        tag=_text("As configured when it was found."),
        generation={"type": "integer", "description": "Of the skill when it was found."},
        state=_text("How far it has come.", enum=list(VersionState)),
        since=_time("When it got into this state."),
        found=_time("When the registry told of it."),
        seconds={
            "type": "object",
            "additionalProperties": {"type": "number"},
            "description": "How long it took to get into each state that it has passed.",
        },
        cached={"type": "boolean", "description": "Nothing had to be pulled or compiled."},
        signed_by=_text("Who signed it.", nullable=True),
        attempts={"type": "integer", "description": "How often in a row it was tried."},
        failed_at=_text(
            "The state that it could not get into.", nullable=True, enum=[*VersionState, None]
        ),
        error=_problem_object("Says why it failed."),
    )


def _namespace_summary() -> dict[str, Any]:
    return {
        "name": ref("Namespace"),
        "state": _text("How its description is doing.", enum=list(NamespaceState)),
        "form": _text("The key that tells its form.", enum=["directory", "skills", "config-url"]),
        "source": _text("Where its description is."),
        "generation": {"type": "integer", "description": "Grows with every new description."},
        "last_attempt": _time("When the description was last read, or was to be."),
        "last_success": _time("When it was last read."),
        "next_attempt": _time("When it is read again by itself."),
        "error": _problem_object(
            "Says why it can't be read or used; has `line` and `column` where they are known."
        ),
        "warnings": _list_of(_text()),
        "skill_states": _object(**{status: {"type": "integer"} for status in SkillStatus}),
    }


def _run_summary() -> dict[str, Any]:
    return {
        "id": _text("As in log lines and problem objects."),
        "namespace": ref("Namespace"),
        "skill": ref("SkillPath"),
        "trace_id": _text("None if the request had no trace.", nullable=True),
        "began": _time("When it began."),
        "seconds": _seconds("until its end"),
        "outcome": _text("`ok`, `cancelled`, or the code of the error.", nullable=True),
        "error": _problem_object("Without what the run was given."),
        "tokens": _object(input={"type": "integer"}, output={"type": "integer"}),
    }


def _run_detail() -> dict[str, Any]:
    attributes = {"type": "object", "additionalProperties": True}
    timed = {"began": _time("When it began."), "seconds": _seconds("that it took")}
    span = _object(
        span_id=_text(),
        parent_id=_text(nullable=True),
        name=_text(),
        kind=_text("As OpenTelemetry has them, in lower case."),
        service=_text("Who reports it."),
        **timed,
        failed={"type": "boolean"},
        status=_text("Says why it failed.", nullable=True),
        attributes=attributes,
        events=_list_of(_object(name=_text(), time=_time("When."), attributes=attributes)),
    )
    log = _object(time=_time("When."), channel=_text(), text=_text())
    call = _object(
        name=_text(),
        **timed,
        error=_text("What kind of error.", nullable=True),
        arguments=_text("JSON.", nullable=True),
        result=_text("JSON.", nullable=True),
    )
    return _object(
        **_run_summary(),
        spans=_list_of(span),
        dropped_spans={"type": "integer"},
        logs=_list_of(log),
        dropped_logs={"type": "integer"},
        tool_calls=_list_of(call),
    )


def _seconds(what: str) -> dict[str, Any]:
    return {"type": "number", "nullable": True, "description": f"Time {what}; none: it goes on."}


def _problem_object(description: str) -> dict[str, Any]:
    return {"type": "object", "nullable": True, "description": f"Problem object. {description}"}


def _time(description: str) -> dict[str, Any]:
    text = f"{description} Seconds since 1970."
    return {"type": "number", "nullable": True, "description": text}


def _skill_metadata() -> dict[str, Any]:
    return _object(
        description=_text(nullable=True),
        version=_text("The line of `pharia:skill`, such as `0.3`.", nullable=True),
        skill_type=_text("How it is run.", enum=list(SkillKind)),
        input_schema={"nullable": True, "description": "JSON Schema of the input."},
        output_schema={"nullable": True, "description": "JSON Schema of the output."},
    )


def _readiness() -> dict[str, Any]:
    component = _object(ready={"type": "boolean"}) | {"additionalProperties": True}
    return _object(
        ready={"type": "boolean", "description": "All components are."},
        components={"type": "object", "additionalProperties": component},
    )


def _problem() -> dict[str, Any]:
    schema = _object(
        type=_text("Names the kind of problem, as `code` does.", format="uri"),
        title=_text("The kind of problem in words."),
        status={"type": "integer"},
        detail=_text("What was wrong, and where."),
        code=_text("For programs."),
        fixable_by=_text("Who can make it go away.", enum=list(Fixer)),
        retryable={"type": "boolean", "description": "Can the same request succeed later?"},
    )
    schema["properties"]["trace_id"] = _text("Trace of the request, if it carried one.")
    return schema | {
        "additionalProperties": True,
        "example": {
            "type": "urn:pharia-kernel:error:skill_not_found",
            "title": "Skill not found",
            "status": 404,
            "detail": "There is no skill `dev/greet`.",
            "code": "skill_not_found",
            "fixable_by": "caller",
            "retryable": False,
        },
    }


def _object(**properties: Any) -> dict[str, Any]:
    """All properties are always present."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list_of(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _text(description: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "string", **({"description": description} if description else {}), **more}
