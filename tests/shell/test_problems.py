"""Errors that no resource raises, and what the shell does for every route."""

from __future__ import annotations

import logging

import httpx
import pytest

from tests.shell.support import (
    JSON,
    TRACE_ID,
    TRACEPARENT,
    MemorySkills,
    Settings,
    app_of,
    echo,
    raises,
    returns,
    running,
)

GETS = ["/", "/health", "/ready", "/v1/skills", "/cached_skills", "/openapi.json", "/skill.wit"]


@pytest.mark.parametrize(
    "path", ["/other", "/v1/skills/", "/v1", "/csi/v1", "/csi/v3/chat", "/v1/skills/a/b/other"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_route(client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, path, headers={"traceparent": TRACEPARENT})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "urn:pharia-kernel:error:not_found"
    assert problem["title"] == "Not found"
    assert problem["status"] == 404
    assert problem["code"] == "not_found"
    assert problem["trace_id"] == TRACE_ID
    assert path in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/skills", "GET, HEAD"),
        ("DELETE", "/health", "GET, HEAD"),
        ("GET", "/cached_skills/dev/greet", "DELETE"),
        ("HEAD", "/cached_skills/dev/greet", "DELETE"),
    ],
)
async def test_wrong_method(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    assert response.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert response.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", GETS)
async def test_head_answers_like_get(client: httpx.AsyncClient, path: str) -> None:
    headers = {"Accept-Encoding": "identity"}
    head = await client.head(path, headers=headers)
    get = await client.get(path, headers=headers)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    "traceparent",
    ["", "00-xyz", f"00-{'0' * 32}-b7ad6b7169203331-01", f"ff-{TRACE_ID}-{'1' * 16}-01"],
)
async def test_invalid_trace_context_is_ignored(
    client: httpx.AsyncClient, skills: MemorySkills, traceparent: str
) -> None:
    skills.runs["greet"] = echo
    headers = {"traceparent": traceparent, "tracestate": "vendor=1"}
    assert "trace_id" not in (await client.get("/other", headers=headers)).json()
    await client.post("/v1/skills/dev/greet/run", json=1, headers=headers)
    assert skills.calls[0][2].trace_headers == {}


async def test_unexpected_error_in_a_resource(
    client: httpx.AsyncClient, skills: MemorySkills, caplog: pytest.LogCaptureFixture
) -> None:
    skills.components = {"engines": {}}  # no `ready`
    with caplog.at_level(logging.ERROR):
        response = await client.get("/ready")
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.exc_info and record.exc_info[0] is KeyError
    assert (await client.get("/health")).status_code == 200


async def test_large_answers_are_compressed(
    client: httpx.AsyncClient, skills: MemorySkills
) -> None:
    large = b'"' + b"x" * 500_000 + b'"'
    skills.runs |= {"large": returns(large), "small": returns(b"1")}
    compressed = await client.post("/v1/skills/dev/large/run", json=1)
    assert compressed.headers["content-encoding"] == "gzip"
    assert int(compressed.headers["content-length"]) < len(large) // 100
    assert compressed.content == large
    small = await client.post("/v1/skills/dev/small/run", json=1)
    assert "content-encoding" not in small.headers
    plain = await client.post(
        "/v1/skills/dev/large/run", json=1, headers={"Accept-Encoding": "identity"}
    )
    assert "content-encoding" not in plain.headers
    assert plain.content == large


async def test_cors_is_off_by_default(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"Origin": "https://app.example.com"})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_cors_lets_listed_origins_in(skills: MemorySkills) -> None:
    skills.runs["greet"] = raises(ZeroDivisionError())
    origin = "https://app.example.com"
    run = "/v1/skills/dev/greet/run"
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    async with running(app_of(skills, settings=Settings(cors_allow_origins=[origin]))) as client:
        asked = await client.options(run, headers={"Origin": origin, **preflight})
        failed = await client.post(run, content=b"1", headers={**JSON, "Origin": origin})
        other = await client.get("/health", headers={"Origin": "https://evil.example.com"})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == origin
    assert "authorization" in asked.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    assert failed.status_code == 500
    assert failed.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in other.headers
