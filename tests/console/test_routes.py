"""``/v1/runs``, ``/v1/traces`` and the files of the console, over HTTP."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pharia_kernel.config import Settings
from pharia_kernel.config.authorization import ApiKey, hash_api_key
from pharia_kernel.shell import Authorizers, runs_history
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.telemetry import history, names
from pharia_kernel.telemetry.history import MAX_SPANS, History, Recording, SpanEvent, Value
from tests.shell.support import MemorySkills, app_of, running

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture
def kept() -> Iterator[History]:
    found = History(10)
    history.use(found)
    yield found
    history.use(None)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with running(app_of(MemorySkills())) as client:
        yield client


def add_run(kept: History, id: str, namespace: str = "dev", trace: str | None = TRACE) -> Recording:
    recording = Recording(trace)
    recording.begin("POST /v1/skills/{namespace}/{name}/run", "server", None, span_id=SPAN)
    kept.begin(id, namespace, str(SkillPath(namespace, "greet")), recording).end(None, "ok")
    return recording


# --- runs -----------------------------------------------------------------------------------------


async def test_the_newest_first(client: httpx.AsyncClient, kept: History) -> None:
    for number in range(3):
        add_run(kept, str(number), trace=None)
    listed = (await client.get("/v1/runs")).json()
    assert [run["id"] for run in listed] == ["2", "1", "0"]
    assert [run["id"] for run in (await client.get("/v1/runs?limit=1")).json()] == ["2"]
    assert (await client.get("/v1/runs?skill=dev/other")).json() == []
    assert (await client.get("/v1/runs?limit=0")).status_code == 400
    assert (await client.get("/v1/runs")).headers["cache-control"] == "no-store"


async def test_a_run_in_detail(client: httpx.AsyncClient, kept: History) -> None:
    recording = add_run(kept, "one")
    chat = recording.begin(names.CHAT, "client", SPAN)
    chat.attributes = {names.INPUT_TOKENS: 21, names.OUTPUT_TOKENS: 34}
    tool = recording.begin("execute_tool add", "internal", SPAN)
    tool.attributes = {names.OPERATION: names.EXECUTE_TOOL, names.GEN_AI_TOOL_NAME: "add"}
    line: dict[str, Value] = {names.LOG_IOSTREAM: "stdout", names.LOG_ORIGINAL: "hello"}
    chat.events = [SpanEvent(names.OUTPUT, 5_000_000_000, line), SpanEvent("other", 1)]
    run = (await client.get("/v1/runs/one")).json()
    assert (run["outcome"], run["trace_id"]) == ("ok", TRACE)
    assert run["tokens"] == {"input": 21, "output": 34}
    assert run["logs"] == [{"time": 5.0, "channel": "stdout", "text": "hello"}]
    assert [call["name"] for call in run["tool_calls"]] == ["add"]
    assert [span["name"] for span in run["spans"]][1:] == [names.CHAT, "execute_tool add"]
    assert [event["name"] for event in run["spans"][1]["events"]] == ["other"]


async def test_what_is_not_kept(client: httpx.AsyncClient, kept: History) -> None:
    answer = await client.get("/v1/runs/unknown")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_kernel_that_keeps_nothing_says_so(client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/v1/runs"), await client.post("/v1/traces", headers=JSON)):
        assert answer.status_code == 404
        assert "console-runs" in answer.json()["detail"]


# --- who may --------------------------------------------------------------------------------------


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer pk_{name}"}


@pytest.fixture
async def guarded() -> AsyncIterator[httpx.AsyncClient]:
    grants = {"deployer": ["deploy"], "runner": ["run"], "stranger": ["run"]}
    keys = {
        name: ApiKey.model_validate(
            {
                "hash": hash_api_key(f"pk_{name}"),
                "permissions": permissions,
                "namespaces": ["other" if name == "stranger" else "dev"],
            }
        )
        for name, permissions in grants.items()
    }
    async with running(app_of(MemorySkills(), auth=Authorizers(Settings(api_keys=keys)))) as client:
        yield client


async def test_all_runs_are_for_those_who_deploy(guarded: httpx.AsyncClient, kept: History) -> None:
    add_run(kept, "ours")
    add_run(kept, "theirs", "team")

    async def listed(name: str, query: str = "") -> list[str]:
        answer = await guarded.get(f"/v1/runs{query}", headers=bearer(name))
        return [run["id"] for run in answer.json()]

    assert await listed("deployer") == ["ours"]
    assert await listed("runner") == []
    assert await listed("runner", f"?trace_id={TRACE}") == ["ours"]
    assert await listed("stranger", f"?trace_id={TRACE}") == []
    assert (await guarded.get("/v1/runs")).status_code == 401


async def test_a_run_of_a_foreign_namespace_is_not_there(
    guarded: httpx.AsyncClient, kept: History
) -> None:
    add_run(kept, "ours")
    statuses = {
        name: (await guarded.get("/v1/runs/ours", headers=bearer(name))).status_code
        for name in ("deployer", "runner", "stranger")
    }
    assert statuses == {"deployer": 200, "runner": 200, "stranger": 404}


async def test_spans_are_taken_from_those_who_have_a_token(
    guarded: httpx.AsyncClient, kept: History
) -> None:
    body: dict[str, Any] = {"resourceSpans": []}
    assert (await guarded.post("/v1/traces", json=body)).status_code == 401
    assert (await guarded.post("/v1/traces", json=body, headers=bearer("runner"))).json() == {}


async def test_without_authorization_the_network_reports_nothing(kept: History) -> None:
    transport = httpx.ASGITransport(app_of(MemorySkills()), client=("192.0.2.1", 4))
    async with httpx.AsyncClient(transport=transport, base_url="http://kernel") as client:
        answer = await client.post("/v1/traces", json={"resourceSpans": []})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


# --- spans of others ------------------------------------------------------------------------------


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "author"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def span(**members: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE.upper(),
        "spanId": "1" * 16,
        "parentSpanId": SPAN,
        "name": "mine",
        "kind": 3,
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": 1500000000,
        **members,
    }


ATTRIBUTES = [
    {"key": "text", "value": {"stringValue": "a"}},
    {"key": "count", "value": {"intValue": "7"}},
    {"key": "ratio", "value": {"doubleValue": 0.5}},
    {"key": "yes", "value": {"boolValue": True}},
    {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": 1}]}}},
    {
        "key": "map",
        "value": {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "1"}}]}},
    },
    {"key": "nothing", "value": {}},
    {"key": "strange", "value": {"newValue": 1}},
]


async def test_spans_in_json_join_the_run(client: httpx.AsyncClient, kept: History) -> None:
    add_run(kept, "one")
    body = otlp(
        span(
            attributes=ATTRIBUTES,
            status={"code": 2, "message": "broke"},
            events=[{"name": "exception", "timeUnixNano": "1200000000", "unknown": 1}],
        )
    )
    answer = await client.post("/v1/traces", json=body)
    assert (answer.status_code, answer.json()) == (200, {})
    first, second = (await client.get("/v1/runs/one")).json()["spans"]
    assert first == {
        "span_id": "1" * 16,
        "parent_id": SPAN,
        "name": "mine",
        "kind": "client",
        "service": "author",
        "began": 1.0,
        "seconds": 0.5,
        "failed": True,
        "status": "broke",
        "attributes": {
            "text": "a",
            "count": 7,
            "ratio": 0.5,
            "yes": True,
            "list": ["x", "1"],
            "map": '{"k":1}',
        },
        "events": [{"name": "exception", "time": 1.2, "attributes": {}}],
    }
    assert second["service"] == "pharia-kernel"


async def test_spans_of_the_sdk_join_the_run(client: httpx.AsyncClient, kept: History) -> None:
    """Protobuf as OpenTelemetry's own exporter makes it."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("outer") as outer:
        outer.set_attribute("list", ["a", "b"])
        outer.add_event("event", {"n": 1})
    trace = f"{outer.get_span_context().trace_id:032x}"
    add_run(kept, "one", trace=trace)
    body = encode_spans(exporter.get_finished_spans()).SerializeToString()
    answer = await client.post(
        "/v1/traces",
        content=gzip.compress(body),
        headers={
            **PROTOBUF,
            "Content-Encoding": "gzip",
        },
    )
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
    spans = {s["name"]: s for s in (await client.get("/v1/runs/one")).json()["spans"]}
    assert spans["outer"]["attributes"]["list"] == ["a", "b"]
    assert spans["outer"]["events"][0]["attributes"] == {"n": 1}


async def test_tokens_that_others_report_do_not_count_twice(
    client: httpx.AsyncClient, kept: History
) -> None:
    add_run(kept, "one")
    tokens = [{"key": names.INPUT_TOKENS, "value": {"intValue": "5"}}]
    await client.post("/v1/traces", json=otlp(span(attributes=tokens)))
    assert (await client.get("/v1/runs/one")).json()["tokens"]["input"] == 0


@pytest.mark.parametrize("media_type", ["json", "protobuf"])
async def test_a_trace_has_only_so_much_room(
    client: httpx.AsyncClient, kept: History, media_type: str
) -> None:
    spans = [span(spanId=f"{number:016x}") for number in range(1, MAX_SPANS + 4)]
    if media_type == "json":
        answer = await client.post("/v1/traces", json=otlp(*spans))
        assert answer.json()["partialSuccess"]["rejectedSpans"] == "3"
        return
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for one in spans:
        trace_id, span_id = bytes.fromhex(TRACE), bytes.fromhex(one["spanId"])
        scope.spans.add(trace_id=trace_id, span_id=span_id, name="mine")
    answer = await client.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    taken = ExportTraceServiceResponse.FromString(answer.content)
    assert taken.partial_success.rejected_spans == 3


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"[]", JSON, 400),
        (b"\xff\xff", PROTOBUF, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b" " * (runs_history.MAX_REPORT + 1), JSON, 413),
        (b"[" * 100_000, JSON, 400),
    ],
)
async def test_what_is_no_otlp(
    client: httpx.AsyncClient, kept: History, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await client.post("/v1/traces", content=content, headers=headers)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "members",
    [
        {"traceId": "0" * 32},
        {"traceId": "abc"},
        {"spanId": ""},
        {"parentSpanId": "x" * 16},
        {"startTimeUnixNano": "soon"},
    ],
)
async def test_ids_and_times_are_checked(
    client: httpx.AsyncClient, kept: History, members: dict[str, Any]
) -> None:
    answer = await client.post("/v1/traces", json=otlp(span(**members)))
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


# --- files ----------------------------------------------------------------------------------------

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_browsers_get_the_console_and_others_what_they_had(
    client: httpx.AsyncClient,
) -> None:
    console = await client.get("/", headers=BROWSER)
    assert "<title>PhariaKernel console</title>" in console.text
    other = await client.get("/")
    assert "Welcome to PhariaKernel" in other.text
    assert "Accept" in console.headers["vary"]
    assert "Accept" in other.headers["vary"]


async def test_the_page_runs_its_own_scripts_only(client: httpx.AsyncClient) -> None:
    console = await client.get("/", headers=BROWSER)
    policy = dict(
        directive.strip().split(" ", 1)
        for directive in console.headers["content-security-policy"].split(";")
    )
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == (
        "'none'",
        "'self'",
        "'self'",
    )
    assert "unsafe" not in console.headers["content-security-policy"]
    assert not re.search(r"<script>|<style|style=|\son\w+=", console.text)
    assert "set-cookie" not in console.headers


async def _files(client: httpx.AsyncClient) -> list[str]:
    page = (await client.get("/", headers=BROWSER)).text
    return re.findall(r'(?:src|href)="\./(console/[^"]+)"', page)


async def test_hashed_files_are_kept_for_ever(client: httpx.AsyncClient) -> None:
    files = await _files(client)
    assert {file.rpartition(".")[2] for file in files} == {"js", "css", "svg"}
    for file in files:
        answer = await client.get(f"/{file}")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["x-content-type-options"] == "nosniff"
        plain = await client.get(f"/{file}", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == answer.content
        assert plain.headers["etag"] != answer.headers["etag"]
    assert (await client.get("/console/unknown.js")).status_code == 404
    assert (await client.get("/console/..%2findex.html")).status_code == 404


async def test_what_a_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for path in ["/", *(f"/{file}" for file in await _files(client))]:
        first = await client.get(path, headers=BROWSER)
        tags = f'"other", W/{first.headers["etag"]}'
        again = await client.get(path, headers={**BROWSER, "If-None-Match": tags})
        assert (again.status_code, again.content) == (304, b"")
        changed = await client.get(path, headers={**BROWSER, "If-None-Match": '"other"'})
        assert changed.status_code == 200
