"""The page of the HTTP routes, from the OpenAPI document and the table of permissions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, cast

import httpx

from pharia_kernel import config
from pharia_kernel.csi.api import Csi
from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex
from pharia_kernel.shell import documents
from pharia_kernel.shell.app import create_app
from pharia_kernel.shell.auth import Authorizers
from pharia_kernel.shell.auth.routes import ROUTES, Open
from pharia_kernel.skills.api import Skills
from tools.reference import markdown as md
from tools.reference.schemas import fields, spelled

_OLD, _NEW = "/csi/v1/", "/csi/v2/"
_LONGEST_LINE = 100
_METHODS = ("get", "put", "post", "delete")
_INTRODUCTION = """
A running kernel has this at `/api-docs`, where it can be tried out, and at `/openapi.json` for
programs. Bodies are JSON in UTF-8 unless something else is said. Who may call a route depends on
the permissions of the bearer token: see [authorization](../authorization.md). All failures are
[problem objects](errors.md).
"""

Operation = dict[str, Any]


def page() -> str:
    """``http.md``."""
    document = asyncio.run(_document())
    operations = list(_operations(document))
    descriptions = {tag["name"]: tag["description"] for tag in document["tags"]}
    tags = list(dict.fromkeys([*descriptions, *(o["tags"][0] for _, o in operations)]))
    schemas = document["components"]["schemas"]
    return md.page(
        md.heading(1, "HTTP"),
        md.line(_INTRODUCTION),
        *(
            _tag(tag, descriptions.get(tag, ""), [o for o in operations if o[1]["tags"][0] == tag])
            for tag in tags
        ),
        md.heading(2, "Shapes"),
        *(_schema(name, schemas[name]) for name in sorted(schemas)),
    )


async def _document() -> dict[str, Any]:
    """As a kernel with a document index of its own serves it. Nothing behind the routes is there:
    only the document is asked for."""
    nothing = cast(Any, None)
    app = create_app(
        skills=cast(Skills, nothing),
        csi=cast(Csi, nothing),
        auth=Authorizers(config.Settings()),
        settings=config.Settings(),
        version="",
        documents=lambda token: documents.router(
            documents.DocumentRoutes(cast(LocalDocumentIndex, nothing), token, 0)
        ),
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://kernel") as client:
        answer = await client.get("/openapi.json")
        document: dict[str, Any] = answer.raise_for_status().json()
        return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, Operation]]:
    """Each with what it is called, such as ``GET /health``. Of functions that did not change, the
    older route only refers to the newer."""
    paths = document["paths"]
    for path, methods in paths.items():
        newer = path.replace(_OLD, _NEW)
        for method in _METHODS:
            if method not in methods:
                continue
            operation = methods[method]
            if newer != path and _exchanged(operation) == _exchanged(paths[newer][method]):
                operation = operation | {"same_as": f"{method.upper()} {newer}"}
            yield f"{method.upper()} {path}", operation


def _exchanged(operation: Operation) -> Any:
    return operation["requestBody"], operation["responses"]["200"]


def _tag(tag: str, description: str, operations: list[tuple[str, Operation]]) -> str:
    return md.joined(
        md.heading(2, f"Routes of `{tag}`"),
        description,
        md.items(f"{md.link(f'`{route}`')}{_mark(o)}" for route, o in operations),
        *(_operation(route, operation) for route, operation in operations),
    )


def _mark(operation: Operation) -> str:
    return " (deprecated)" if operation.get("deprecated") else ""


def _operation(route: str, operation: Operation) -> str:
    title = md.heading(3, f"`{route}`")
    if newer := operation.get("same_as"):
        return md.joined(title, f"The same as {md.link(f'`{newer}`')}.", _permission(route))
    return md.joined(
        title,
        _said(operation),
        _permission(route),
        _parameters(operation.get("parameters", [])),
        _body(operation.get("requestBody")),
        *_answers(operation["responses"]),
    )


def _said(operation: Operation) -> str:
    """FastAPI makes a summary of the function's name, which tells nothing besides the path."""
    description: str = operation["description"]
    summary: str = operation["summary"]
    own = summary.lower().replace(" ", "_") != operation["operationId"] and not summary.istitle()
    return md.line(f"{summary}. {description}" if own else description)


def _permission(route: str) -> str:
    """What the shell demands, of the functions of the CSI under their common template."""
    method, path = route.split(" ")
    demand = ROUTES.get((method, path)) or ROUTES[method, f"{path.rpartition('/')[0]}/{{function}}"]
    if isinstance(demand, Open):
        return f"Permission: none; {demand.value}."
    return f"Permission: {' or '.join(f'`{permission}`' for permission in demand)}."


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = (
        (
            f"`{parameter['name']}`",
            parameter["in"],
            spelled(parameter["schema"]),
            "yes" if parameter.get("required") else "",
            parameter.get("description", ""),
        )
        for parameter in parameters
    )
    return md.table(("Parameter", "In", "Type", "Required", "Meaning"), rows)


def _body(body: dict[str, Any] | None) -> str:
    if body is None:
        return ""
    return md.joined(*_contents("Body", body.get("description", ""), body["content"]))


def _answers(answers: dict[str, Any]) -> Iterator[str]:
    problems = []
    for status, answer in answers.items():
        if status.isdigit() and int(status) < 400:
            yield from _contents(f"Answer {status}", answer["description"], answer.get("content"))
        elif status.isdigit():
            problems.append(status)
    if problems:
        yield f"Problems: {', '.join(problems)}."


def _contents(what: str, description: str, content: dict[str, Any] | None) -> Iterator[str]:
    shapes = [
        spelled(each["schema"]) if media_type == "application/json" else f"`{media_type}`"
        for media_type, each in (content or {}).items()
    ]
    yield f"{what}: {' or '.join(shapes) or 'nothing'}. {md.line(description)}".strip()
    for each in (content or {}).values():
        if "example" in each:
            yield _example(each["example"])


def _example(example: Any) -> str:
    if isinstance(example, str) and "\n" in example:
        return md.code(example, "text")
    text = json.dumps(example, ensure_ascii=False)
    if len(text) > _LONGEST_LINE:
        text = json.dumps(example, indent=2, ensure_ascii=False)
    return md.code(text, "json")


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (f"`{path}`", kind, "yes" if required else "", default, description)
        for path, kind, required, default, description in fields(schema)
    ]
    header = ("Member", "Type", "Required", "Default", "Meaning")
    return md.joined(
        md.heading(3, name),
        md.line(schema.get("description", "")),
        md.table(header, rows) or f"{spelled(schema)}.",
    )
