from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import pytest
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from pharia_kernel import wit
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import SkillKind, SkillMetadata
from tests.shell.support import VERSION, MemorySkills
from tests.shell.test_namespaces import DEV
from tests.shell.test_resources import BROKEN, CHAT, GREET

OPERATIONS = {
    ("/", "get"): "landing_page",
    ("/api-docs", "get"): "api_docs",
    ("/cached_skills", "get"): "cached_skills",
    ("/cached_skills/{namespace}/{name}", "delete"): "drop_cached_skill",
    ("/health", "get"): "health",
    ("/mcp/{namespace}", "post"): "mcp",
    ("/openai/v1/chat/completions", "post"): "openai_chat_completion",
    ("/openai/v1/models", "get"): "openai_models",
    ("/openapi.json", "get"): "openapi_document",
    ("/ready", "get"): "ready",
    ("/skill.wit", "get"): "get_skill_wit",
    ("/skills", "get"): "skills_unversioned",
    ("/v1/mcp_servers/{namespace}", "get"): "list_mcp_servers",
    ("/v1/namespaces", "get"): "namespaces",
    ("/v1/namespaces/{namespace}", "get"): "namespace",
    ("/v1/namespaces/{namespace}/refresh", "post"): "refresh_namespace",
    ("/v1/runs", "get"): "runs",
    ("/v1/runs/{id}", "get"): "run",
    ("/v1/skills", "get"): "skills",
    ("/v1/skills/{namespace}/{name}/message-stream", "post"): "message_stream_skill",
    ("/v1/skills/{namespace}/{name}/metadata", "get"): "skill_metadata",
    ("/v1/skills/{namespace}/{name}/run", "post"): "run_skill",
    ("/v1/tools/{namespace}", "get"): "list_tools",
    ("/v1/traces", "post"): "report_spans",
}
OPEN = {"landing_page", "api_docs", "health", "openapi_document", "ready", "get_skill_wit"}


class Links(HTMLParser):
    """What the browser loads by itself, what a click leads to, and which elements there are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.offered: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append((tag, values))
        target = values.get("src") or values.get("href")
        if target:
            (self.offered if tag == "a" else self.loaded).append(target)


async def test_landing_page(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    page = Links(response.text)
    assert "<title>PhariaKernel</title>" in response.text
    assert ("html", {"lang": "en"}) in page.elements
    assert [tag for tag, _ in page.elements].count("h1") == 1
    assert "https://pharia-skill.readthedocs.io/en/stable/index.html" in page.offered
    local = [link for link in page.offered if not link.startswith("https:")] + page.loaded
    assert "api-docs" in local
    for link in local:
        assert (await client.get(f"/{link}")).status_code in (200, 503), link


async def test_api_docs_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    response = await client.get("/api-docs")
    page = Links(response.text)
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert len(page.loaded) == 4
    for link in page.loaded:
        asset = await client.get(f"/{link}")
        assert asset.status_code == 200, link
        assert asset.headers["content-type"].split(";")[0] in (
            "text/css",
            "text/javascript",
            "image/svg+xml",
        )
    css = (await client.get("/api-docs/swagger-ui.css")).text
    assert not re.search(r"url\(['\"]?https?:|@import", css)
    assert "SwaggerUIBundle" in (await client.get("/api-docs/swagger-ui-bundle.js")).text[:5000]
    assert "validatorUrl: null" in (await client.get("/api-docs/api-docs.js")).text


@pytest.mark.parametrize("asset", ["index.html", "swagger-initializer.js", "other"])
async def test_only_needed_assets_are_served(client: httpx.AsyncClient, asset: str) -> None:
    assert (await client.get(f"/api-docs/{asset}")).status_code == 404


async def test_skill_wit(client: httpx.AsyncClient) -> None:
    response = await client.get("/skill.wit")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert f"package pharia:skill@{wit.newest_stable()};" in response.text


@pytest.mark.parametrize("version", [*wit.versions(), *map(wit.line_of, wit.versions())])
async def test_skill_wit_of_each_version(client: httpx.AsyncClient, version: str) -> None:
    response = await client.get("/skill.wit", params={"version": version})
    assert response.text == wit.text(version)


async def test_skill_wit_of_unknown_version(client: httpx.AsyncClient) -> None:
    response = await client.get("/skill.wit?version=9.9")
    assert response.status_code == 404
    for version in ("9.9", *wit.versions()):
        assert version in response.json()["detail"]


async def test_openapi_document_is_valid_and_complete(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    validate(document)
    assert document["info"]["title"] == "pharia-kernel"
    assert document["info"]["version"] == VERSION
    assert document["info"]["license"]["name"] == "Apache-2.0"
    assert document["components"]["securitySchemes"] == {
        "api_token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    operations = {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {
        key: operation["operationId"]
        for key, operation in operations.items()
        if operation["tags"] != ["csi"]  # see tests/shell/csi
    } == OPERATIONS
    for operation in operations.values():
        secured = operation["operationId"] not in OPEN
        assert operation.get("security", []) == ([{"api_token": []}] if secured else [])
        if secured:
            assert {"401", "403", "default"} <= operation["responses"].keys()


async def test_examples_match_their_schemas(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    checked = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            bodies = [*operation["responses"].values(), operation.get("requestBody", {})]
            for content in (media for body in bodies for media in body.get("content", {}).values()):
                if "example" in content:
                    _check(content["example"], content["schema"], document)
                    checked += 1
            for parameter in operation.get("parameters", []):
                example = parameter.get("example", parameter["schema"].get("example"))
                if example is not None:
                    _check(example, parameter["schema"], document)
                    checked += 1
    for schema in document["components"]["schemas"].values():
        if "example" in schema:
            _check(schema["example"], schema, document)
            checked += 1
    assert checked > 15


async def test_answers_match_their_schemas(client: httpx.AsyncClient, skills: MemorySkills) -> None:
    skills.infos = [GREET, BROKEN, CHAT]
    skills.in_cache = [SkillPath("dev", "greet")]
    skills.tools_of["dev"] = [{"name": "add", "description": "", "input_schema": {}}]
    skills.servers_of["dev"] = ["http://localhost/mcp"]
    skills.components = {"engines": {"ready": True, "alive": 2}}
    skills.in_namespaces["dev"] = DEV
    skills.descriptions["greet"] = SkillMetadata(None, None, SkillKind.FUNCTION, None, None)
    document = (await client.get("/openapi.json")).json()
    for method, url, path in [
        ("get", "/v1/skills", "/v1/skills"),
        ("get", "/v1/skills?detail=true", "/v1/skills"),
        ("get", "/v1/skills?type=other", "/v1/skills"),
        ("get", "/v1/skills/dev/greet/metadata", "/v1/skills/{namespace}/{name}/metadata"),
        ("get", "/v1/skills/dev/other/metadata", "/v1/skills/{namespace}/{name}/metadata"),
        ("post", "/v1/skills/dev/other/run", "/v1/skills/{namespace}/{name}/run"),
        ("get", "/v1/tools/dev", "/v1/tools/{namespace}"),
        ("get", "/v1/tools/other", "/v1/tools/{namespace}"),
        ("get", "/v1/mcp_servers/dev", "/v1/mcp_servers/{namespace}"),
        ("get", "/v1/namespaces", "/v1/namespaces"),
        ("get", "/v1/namespaces/dev", "/v1/namespaces/{namespace}"),
        ("post", "/v1/namespaces/dev/refresh", "/v1/namespaces/{namespace}/refresh"),
        ("get", "/cached_skills", "/cached_skills"),
        ("delete", "/cached_skills/dev/greet", "/cached_skills/{namespace}/{name}"),
        ("get", "/ready", "/ready"),
    ]:
        response = await client.request(method, url)
        documented = document["paths"][path][method]["responses"][str(response.status_code)]
        content = documented["content"][response.headers["content-type"]]
        _check(response.json(), content["schema"], document)


def _check(value: object, schema: dict[str, object], document: dict[str, object]) -> None:
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    registry = Registry().with_resource("urn:document", resource)
    absolute = _absolute(schema)
    OAS30Validator(absolute, registry=registry).validate(value)


def _absolute(schema: object) -> object:
    """The schema with references into the document, not into itself."""
    if isinstance(schema, dict):
        return {
            key: f"urn:document{value}" if key == "$ref" else _absolute(value)
            for key, value in schema.items()
        }
    return [_absolute(item) for item in schema] if isinstance(schema, list) else schema
