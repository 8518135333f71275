"""The CSI in the OpenAPI document, against what the server does."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from pharia_kernel.errors import NotFound
from pharia_kernel.shell.csi.functions import VERSIONS
from tests.shell.csi.support import RecordingCsi, raises
from tests.shell.csi.test_errors import WRONG_SHAPES

ROUTES = [f"/csi/{version}/{name}" for version, names in VERSIONS.items() for name in names]
# What JSON Schema cannot say briefly: counts of members that depend on each other.
BEYOND_SCHEMAS = {
    "/0/messages/1",
    "/messages/0",
    "/0/params/tool_choice",
    "/0/params/response_format",
    "/0/filters/0",
    "/0/filters/0/with/0/metadata",
}


async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    described: dict[str, Any] = (await client.get("/openapi.json")).json()
    return described


async def test_every_route_is_described(client: httpx.AsyncClient) -> None:
    described = await document(client)
    paths = {path for path in described["paths"] if path.startswith("/csi")}
    assert paths == {*ROUTES, "/csi"}
    for path in paths:
        operation = described["paths"][path]["post"]
        assert operation["tags"] == ["csi"]
        assert operation["summary"]
        assert operation["security"] == [{"api_token": []}]
    assert "csi" in [tag["name"] for tag in described["tags"]]
    assert described["paths"]["/csi"]["post"]["deprecated"] is True


@pytest.mark.parametrize("version", VERSIONS)
async def test_examples_work_and_answers_are_as_described(
    client: httpx.AsyncClient, version: str
) -> None:
    described = await document(client)
    for name in VERSIONS[version]:
        path = f"/csi/{version}/{name}"
        operation = described["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        response = await client.post(path, json=example)
        assert response.status_code == 200, (path, response.text)
        ((media_type, content),) = operation["responses"]["200"]["content"].items()
        assert response.headers["content-type"] == media_type
        if media_type == "application/json":
            assert violations(response.json(), content["schema"], described) == [], path


async def test_legacy_example_works(client: httpx.AsyncClient) -> None:
    operation = (await document(client))["paths"]["/csi"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert (await client.post("/csi", json=example)).status_code == 200


async def test_item_errors_are_as_described(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    described = await document(client)
    csi.outcome = raises(NotFound("no"))
    operation = described["paths"]["/csi/v2/documents"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    (parameter,) = operation["parameters"]
    headers = {parameter["name"]: parameter["example"]}
    response = await client.post("/csi/v2/documents", json=example, headers=headers)
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert violations(response.json(), schema, described) == []
    assert violations([{"ok": 1, "error": {}}], schema, described) != []


async def test_what_the_server_refuses_is_not_described(client: httpx.AsyncClient) -> None:
    described = await document(client)
    checked = 0
    for function, body, place in WRONG_SHAPES:
        if place in BEYOND_SCHEMAS:
            continue
        request = described["paths"][f"/csi/v2/{function}"]["post"]["requestBody"]
        schema = request["content"]["application/json"]["schema"]
        assert violations(body, schema, described) != [], (function, place)
        checked += 1
    assert checked > 20


def violations(value: object, schema: dict[str, Any], described: dict[str, Any]) -> list[str]:
    resource = Resource.from_contents(described, default_specification=DRAFT202012)
    registry = Registry().with_resource("urn:document", resource)
    validator = OAS30Validator(absolute(schema), registry=registry)
    return [error.message for error in validator.iter_errors(value)]


def absolute(schema: Any) -> Any:
    """The schema with references into the document, not into itself."""
    if isinstance(schema, dict):
        return {
            key: f"urn:document{value}" if key == "$ref" else absolute(value)
            for key, value in schema.items()
        }
    return [absolute(item) for item in schema] if isinstance(schema, list) else schema
