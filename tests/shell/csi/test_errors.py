"""Requests that are wrong, and calls that fail."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from pharia_kernel import errors
from pharia_kernel.shell.auth import Principal
from pharia_kernel.shell.csi.functions import VERSIONS
from tests.shell.csi.support import (
    CHAT,
    COMPLETION,
    EXPLANATION,
    LANGUAGE,
    PATH,
    SEARCH,
    TEXT_CHUNK,
    TOOL_CALLS,
    RecordingCsi,
    raises,
)
from tests.shell.support import (
    JSON,
    TRACE_ID,
    TRACEPARENT,
    Hanging,
    MemorySkills,
    Settings,
    app_of,
    drop,
    listening,
    post_raw,
    running,
    within,
)

BODIES: dict[str, Any] = {
    "chat": [CHAT],
    "chat_stream": CHAT,
    "chunk": [TEXT_CHUNK],
    "chunk_with_offsets": [TEXT_CHUNK],
    "complete": [COMPLETION],
    "completion_stream": COMPLETION,
    "documents": [PATH],
    "document_metadata": [PATH],
    "explain": [EXPLANATION],
    "invoke_tool": TOOL_CALLS,
    "list_tools": {"namespace": "dev"},
    "search": [SEARCH],
    "select_language": [LANGUAGE],
}
ROUTES = [f"/csi/{version}/{name}" for version, names in VERSIONS.items() for name in names]


def changed(body: Any, *path: str | int, to: Any) -> Any:
    """A copy with another value at the path."""
    copy = json.loads(json.dumps(body))
    place = copy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return copy


def without(body: Any, *path: str | int) -> Any:
    copy = json.loads(json.dumps(body))
    place = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy


WRONG_SHAPES: list[tuple[str, Any, str]] = [
    ("chat", CHAT, ""),
    ("chat_stream", [CHAT], ""),
    ("chat", [CHAT, {"model": 1}], "/1/model"),
    ("chat", [without(CHAT, "model")], "/0/model"),
    ("chat", [changed(CHAT, "messages", 1, "role", to=None)], "/0/messages/1/role"),
    ("chat", [without(CHAT, "messages", 1, "content")], "/0/messages/1"),
    ("chat_stream", changed(CHAT, "messages", 0, "content", to=None), "/messages/0"),
    ("chat", [changed(CHAT, "params", "max_tokens", to=-1)], "/0/params/max_tokens"),
    ("chat", [changed(CHAT, "params", "max_tokens", to=2**32)], "/0/params/max_tokens"),
    ("chat", [changed(CHAT, "params", "logprobs", to="all")], "/0/params/logprobs"),
    ("chat", [changed(CHAT, "params", "logprobs", to={"top": 256})], "/0/params/logprobs/top"),
    ("chat", [changed(CHAT, "params", "tool_choice", to={"nmaed": "f"})], "/0/params/tool_choice"),
    ("chat", [changed(CHAT, "params", "tool_choice", to="f")], "/0/params/tool_choice"),
    (
        "chat",
        [changed(CHAT, "params", "response_format", to={"json_schema": {}})],
        "/0/params/response_format/json_schema/name",
    ),
    ("chat", [changed(CHAT, "params", "response_format", to={})], "/0/params/response_format"),
    (
        "chat",
        [changed(CHAT, "params", "reasoning_effort", to="much")],
        "/0/params/reasoning_effort",
    ),
    ("complete", [changed(COMPLETION, "params", "stop", 0, to=1)], "/0/params/stop/0"),
    ("completion_stream", changed(COMPLETION, "params", "echo", to="no"), "/params/echo"),
    ("chunk", [without(TEXT_CHUNK, "params", "model")], "/0/params/model"),
    ("explain", [changed(EXPLANATION, "granularity", to="letter")], "/0/granularity"),
    ("documents", ["kernel/docs/intro"], "/0"),
    ("document_metadata", [without(PATH, "collection")], "/0/collection"),
    ("select_language", [changed(LANGUAGE, "languages", to="eng")], "/0/languages"),
    ("search", [changed(SEARCH, "filters", 0, to={"with_all": []})], "/0/filters/0/with_all"),
    ("search", [changed(SEARCH, "filters", 0, to={})], "/0/filters/0"),
    ("search", [changed(SEARCH, "filters", 0, "without", to=[])], "/0/filters/0"),
    (
        "search",
        [changed(SEARCH, "filters", 0, "with", 0, "metadata", "like", to="x")],
        "/0/filters/0/with/0/metadata/like",
    ),
    (
        "search",
        [changed(SEARCH, "filters", 0, "with", 0, "metadata", "less_than", to=1)],
        "/0/filters/0/with/0/metadata",
    ),
    (
        "search",
        [changed(SEARCH, "filters", 0, "with", 0, "metadata", to={"field": "x"})],
        "/0/filters/0/with/0/metadata",
    ),
    (
        "search",
        [changed(SEARCH, "filters", 2, "with_one_of", 0, "metadata", "equal_to", to=1.5)],
        "/0/filters/2/with_one_of/0/metadata/equal_to",
    ),
    (
        "search",
        [changed(SEARCH, "filters", 1, "without", 0, "metadata", "is_null", to=False)],
        "/0/filters/1/without/0/metadata/is_null",
    ),
    ("invoke_tool", without(TOOL_CALLS, "namespace"), "/namespace"),
    ("invoke_tool", changed(TOOL_CALLS, "namespace", to="Dev"), "/namespace"),
    ("invoke_tool", changed(TOOL_CALLS, "namespace", to="dev\n"), "/namespace"),
    ("invoke_tool", changed(TOOL_CALLS, "namespace", to="d" * 65), "/namespace"),
    (
        "invoke_tool",
        without(TOOL_CALLS, "requests", 0, "arguments", 1, "value"),
        "/requests/0/arguments/1/value",
    ),
    ("list_tools", {"namespace": "../other"}, "/namespace"),
]


@pytest.mark.parametrize(("function", "body", "place"), WRONG_SHAPES)
async def test_wrong_shape(
    client: httpx.AsyncClient, csi: RecordingCsi, function: str, body: Any, place: str
) -> None:
    for version in VERSIONS:
        response = await client.post(f"/csi/{version}/{function}", json=body)
        assert response.status_code == 422, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["code"] == "invalid_csi_request"
        (error,) = problem["errors"]
        assert error["path"] == place
        assert error["message"] in problem["detail"]
        assert place in problem["detail"]
    assert csi.calls == []


async def test_message_without_content_names_the_role(client: httpx.AsyncClient) -> None:
    body = [without(CHAT, "messages", 1, "content")]
    response = await client.post("/csi/v1/chat", json=body)
    assert "A message of role `user` needs `content`" in response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{}", {}, 415),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{", JSON, 400),
        (b"", JSON, 400),
        (b'{"a":"\xff"}', JSON, 400),
        (b"[1]", JSON, 422),
        (b'"x"', JSON, 422),
    ],
)
async def test_rules_for_every_body(
    client: httpx.AsyncClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    for route in [*ROUTES, "/csi"]:
        response = await client.post(route, content=content, headers=headers)
        assert response.status_code == status, (route, response.text)
        assert response.headers["content-type"] == "application/problem+json"


async def test_other_methods(client: httpx.AsyncClient) -> None:
    for route in [*ROUTES, "/csi"]:
        for method in ("GET", "PUT", "DELETE"):
            response = await client.request(method, route)
            assert response.status_code == 405
            assert response.headers["allow"] == "POST"


async def test_text_that_is_not_unicode(client: httpx.AsyncClient) -> None:
    body = json.dumps([changed(CHAT, "model", to="\ud800")]).encode()
    response = await client.post("/csi/v1/chat", content=body, headers=JSON)
    assert response.status_code == 400
    assert response.json()["code"] == "invalid_json"


async def test_body_over_the_limit(csi: RecordingCsi) -> None:
    app = app_of(MemorySkills(), csi=csi, settings=Settings(max_body_size=100))
    async with running(app) as client:
        response = await client.post("/csi/v1/chat", json=[CHAT])
    assert response.status_code == 413


async def test_authorization_comes_first(csi: RecordingCsi) -> None:
    class NobodyMay:
        async def authenticate(self, caller: object) -> Principal:
            raise errors.Unauthenticated("Bearer token expected")

        async def close(self) -> None:
            return

    async with running(app_of(MemorySkills(), csi=csi, auth=NobodyMay())) as client:
        for route in [*ROUTES, "/csi"]:
            response = await client.post(route, content=b"{")
            assert response.status_code == 401, route
            assert response.headers["www-authenticate"] == "Bearer"
    assert csi.calls == []


FAILURES: list[tuple[errors.KernelError, int, str | None]] = [
    (errors.TokenRequired("no token"), 401, None),
    (errors.ModelNotFound("no such model"), 404, None),
    (errors.NotFound("no such namespace"), 404, None),
    (errors.InvalidCsiRequest("unsupported role"), 422, None),
    (errors.Overloaded("full", retry_after=2.5), 429, "3"),
    (errors.UpstreamUnauthorized("refused"), 502, None),
    (errors.BadUpstreamAnswer("garbage"), 502, None),
    (errors.NotConfigured("no driver"), 503, None),
    (errors.UpstreamOverloaded("busy", retry_after=7), 503, "7"),
    (errors.UpstreamTimeout("late"), 504, None),
]


@pytest.mark.parametrize("route", [r for r in ROUTES if not r.endswith("_stream")])
async def test_failure_has_its_own_status(
    client: httpx.AsyncClient, csi: RecordingCsi, route: str
) -> None:
    body = BODIES[route.rpartition("/")[2]]
    for error, status, retry_after in FAILURES:
        csi.outcome = raises(error)
        response = await client.post(route, json=body, headers={"traceparent": TRACEPARENT})
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json() == {**error.problem(), "trace_id": TRACE_ID}
        assert response.headers.get("retry-after") == retry_after


async def test_unexpected_failure_is_logged_and_not_shown(
    client: httpx.AsyncClient, csi: RecordingCsi, caplog: pytest.LogCaptureFixture
) -> None:
    csi.outcome = raises(ZeroDivisionError("hunter2"))
    response = await client.post("/csi/v2/chat", json=[CHAT])
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "hunter2" not in response.text
    assert [record for record in caplog.records if record.levelno == logging.ERROR]


async def test_disconnect_cancels_the_call(csi: RecordingCsi) -> None:
    hanging = Hanging()

    class HangingCsi(RecordingCsi):
        async def search(self, requests: Any, context: Any) -> Any:
            await hanging(b"")

    async with listening(app_of(MemorySkills(), csi=HangingCsi())) as port:
        _, writer = await post_raw(port, "/csi/v1/search", json.dumps([SEARCH]).encode())
        await within(hanging.started.wait())
        await drop(writer)
        await within(hanging.ended.wait())
    assert isinstance(hanging.outcome, asyncio.CancelledError)


# --- errors per item ------------------------------------------------------------------------------

ITEM_ERRORS = {"Prefer": "item-errors"}


def fails_on_other(requests: Any) -> Any:
    (request,) = requests
    if request.name == "other":
        raise errors.NotFound("There is no document `other`.")
    return [request.name]


async def test_item_errors(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    csi.outcome = fails_on_other
    body = [PATH, {**PATH, "name": "other"}, PATH]
    response = await client.post("/csi/v2/document_metadata", json=body, headers=ITEM_ERRORS)
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "item-errors"
    first, failed, last = response.json()
    assert first == last == {"ok": "intro"}
    assert failed == {"error": errors.NotFound("There is no document `other`.").problem()}


@pytest.mark.parametrize("function", [name for name, body in BODIES.items() if type(body) is list])
async def test_every_batch_can_tell_its_errors_apart(
    client: httpx.AsyncClient, csi: RecordingCsi, function: str
) -> None:
    route = f"/csi/v2/{function}"
    plain = (await client.post(route, json=BODIES[function])).json()
    response = await client.post(route, json=BODIES[function] * 2, headers=ITEM_ERRORS)
    assert response.json() == [{"ok": answer} for answer in plain * 2]
    csi.outcome = raises(ZeroDivisionError("hunter2"))
    response = await client.post(route, json=BODIES[function], headers=ITEM_ERRORS)
    assert [item["error"]["code"] for item in response.json()] == ["internal_error"]
    assert "hunter2" not in response.text


async def test_items_are_handled_at_the_same_time() -> None:
    class Meeting(RecordingCsi):
        """Answers nobody before both have come."""

        def __init__(self) -> None:
            super().__init__()
            self.barrier = asyncio.Barrier(2)

        async def select_language(self, requests: Any, context: Any) -> Any:
            await within(self.barrier.wait())
            return [requests[0].text]

    body = [{**LANGUAGE, "text": "1"}, {**LANGUAGE, "text": "2"}]
    async with running(app_of(MemorySkills(), csi=Meeting())) as client:
        response = await client.post("/csi/v2/select_language", json=body, headers=ITEM_ERRORS)
    assert response.json() == [{"ok": "1"}, {"ok": "2"}]


async def test_item_errors_are_not_for_others(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    for route in ("/csi/v1/documents", "/csi/v2/list_tools"):
        body = BODIES[route.rpartition("/")[2]]
        csi.outcome = None
        plain = await client.post(route, json=body)
        response = await client.post(route, json=body, headers=ITEM_ERRORS)
        assert response.json() == plain.json()
        assert "preference-applied" not in response.headers
        csi.outcome = raises(errors.NotFound("no"))
        response = await client.post(route, json=body, headers=ITEM_ERRORS)
        assert response.status_code == 404


async def test_a_call_may_take_as_long_as_a_run() -> None:
    csi = RecordingCsi()
    app = app_of(MemorySkills(), csi=csi, settings=Settings(run_timeout=5.0))
    async with running(app) as client:
        await client.post("/csi/v2/select_language", json=[{"text": "x", "languages": ["eng"]}])
    remaining = csi.calls[-1][2].remaining()
    assert remaining is not None
    assert 0 < remaining <= 5
