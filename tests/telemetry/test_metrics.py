from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pharia_kernel.errors import (
    ModelNotFound,
    Overloaded,
    RunTimedOut,
    SkillFailed,
    SkillNotFound,
    UpstreamUnavailable,
)
from pharia_kernel.telemetry import metrics, tracing
from pharia_kernel.telemetry.metrics_server import MetricsServer
from tests.telemetry.support import SAMPLED, TRACE, exporting, sample

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
ORIGINAL = {
    "kernel_http_requests_total": {"method", "path", "status"},
    "kernel_http_requests_duration_seconds": {"method", "path", "status"},
    "kernel_skill_execution_total": {"namespace", "name", "status"},
    "kernel_skill_execution_duration_seconds": {"namespace", "name", "status"},
    "kernel_skill_fetch_duration_seconds": {"namespace", "name"},
    "kernel_skill_cache_items": set(),
    "kernel_csi_requests_total": {"function"},
}
"""Of the kernel that dashboards were made for."""
BUCKETS = "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5 5.0 10.0 25.0 50.0 100.0 250.0 +Inf"


# --- names, labels, buckets -----------------------------------------------------------------------


def test_the_originals_metrics_have_their_labels_and_buckets() -> None:
    metrics.http_request("POST", "/v1", 200, 0.1)
    metrics.skill_executed("dev", "one", None, 0.1)
    metrics.skill_fetched("dev", "one", 0.1, cold=False)
    metrics.csi_requested("chat", 1)
    found: dict[str, set[str]] = {}
    buckets: dict[str, set[str]] = {}
    for family in metrics.REGISTRY.collect():
        for one in family.samples:
            name = re.sub("_(bucket|sum|count)$", "", one.name)
            found.setdefault(name, set()).update(one.labels.keys() - {"le"})
            if one.name.endswith("_bucket"):
                buckets.setdefault(name, set()).add(one.labels["le"])
    assert {name: found[name] for name in ORIGINAL} == ORIGINAL
    for name in ORIGINAL:
        if name.endswith("_seconds"):
            assert buckets[name] == set(BUCKETS.split()), name


def test_outcomes_of_executions() -> None:
    def value(status: str) -> float:
        return sample("kernel_skill_execution_total", namespace="n", name="outcomes", status=status)

    for error in (None, SkillFailed("x"), RunTimedOut("x"), asyncio.CancelledError()):
        metrics.skill_executed("n", "outcomes", error, 0.1)
    assert [value(s) for s in ("ok", "logic_error", "runtime_error")] == [1, 1, 1]


def test_unknown_skills_have_one_label() -> None:
    unknown = {"namespace": "unknown", "name": "unknown", "outcome": "skill_not_found"}
    before = sample("kernel_skill_runs_total", **unknown)
    for number in range(20):
        metrics.run_ended("dev", f"invented-{number}", SkillNotFound.code)
    assert sample("kernel_skill_runs_total", **unknown) == before + 20
    metrics.skill_fetched("dev", "real", 0.1, cold=True)
    metrics.run_ended("dev", "real", "ok")
    real = {"namespace": "dev", "name": "real"}
    assert sample("kernel_skill_runs_total", **real, outcome="ok") == 1
    assert sample("kernel_skill_cold_starts_total", **real) == 1


def test_refused_runs() -> None:
    before = sample("kernel_skill_runs_rejected_total", reason="overloaded")
    metrics.run_ended("dev", "any", Overloaded.code)
    metrics.run_ended("dev", "any", "run_timed_out")
    assert sample("kernel_skill_runs_rejected_total", reason="overloaded") == before + 1


def test_models_that_callers_invent_get_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    def errors(model: str, code: str) -> float:
        return sample("kernel_csi_errors_total", function="chat", model=model, code=code)

    before = errors("unknown", "model_not_found")
    metrics.csi_answered("chat", "invented", 0.1, ModelNotFound("x"))
    assert errors("unknown", "model_not_found") == before + 1
    metrics.csi_answered("chat", "known", 0.1, UpstreamUnavailable("x"))
    assert errors("known", "upstream_unavailable") == 1
    metrics.csi_answered("chat", "known", 0.1, ModelNotFound("x"))
    assert errors("known", "model_not_found") == 1


def test_there_is_a_limit_to_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_models", metrics._Known(2))
    before = sample(
        "kernel_inference_tokens_total", model="other", namespace="", name="", direction="input"
    )
    for number in range(5):
        metrics.tokens_used(f"limited-{number}", "", "", 10, 1)
    assert before + 30 == sample(
        "kernel_inference_tokens_total", model="other", namespace="", name="", direction="input"
    )


def test_there_is_a_limit_to_skills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_skills", metrics._Known(1))
    other = {"namespace": "other", "name": "other", "status": "ok"}
    before = sample("kernel_skill_execution_total", **other)
    for number in range(3):
        metrics.skill_executed("limited", str(number), None, 0.1)
    assert sample("kernel_skill_execution_total", **other) == before + 2


def test_unknown_methods_and_tools_have_one_label() -> None:
    metrics.http_request("BREW", "/pot", 405, 0.1)
    assert sample("kernel_http_requests_total", method="other", path="/pot", status="405") == 1
    before = sample("kernel_tool_calls_total", namespace="unknown", tool="unknown", outcome="error")
    metrics.tool_called("dev", None, ok=False)
    after = sample("kernel_tool_calls_total", namespace="unknown", tool="unknown", outcome="error")
    assert after == before + 1


# --- the listener ---------------------------------------------------------------------------------

STATE = metrics.State(
    ready=True,
    active_runs=3,
    queued_runs=1,
    queue_capacity=7,
    engines_ready=2,
    cached_skills=4,
    namespaces={"dev": True, "team": False},
    skills={"serving": 4, "failed": 1},
    mcp_servers={"healthy": 1},
)


class Scraped:
    def __init__(self, url: str) -> None:
        self.url = url
        self.state = STATE

    async def get(self, path: str = "/metrics", accept: str = "*/*") -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as client:
            return await client.get(path, headers={"Accept": accept})


@pytest_asyncio.fixture
async def scraped(caplog: pytest.LogCaptureFixture) -> AsyncGenerator[Scraped, None]:
    caplog.set_level("INFO", logger="pharia_kernel.telemetry")
    target = Scraped("")
    server = MetricsServer(lambda: target.state)
    await server.start("127.0.0.1", 0)
    target.url = "http://" + caplog.messages[-1].removeprefix("Metrics on: ")
    yield target
    await server.close()


async def test_any_path_has_the_metrics(scraped: Scraped) -> None:
    for path in ("/metrics", "/", "/any/path"):
        response = await scraped.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain")
        assert "kernel_skill_runs_active 3.0" in response.text
    health = await scraped.get("/health")
    assert (health.status_code, health.text) == (200, "OK")


async def test_gauges_show_the_state_of_the_moment(scraped: Scraped) -> None:
    text = (await scraped.get()).text
    assert 'kernel_namespace_healthy{namespace="team"} 0.0' in text
    assert 'kernel_skills{state="serving"} 4.0' in text
    assert "kernel_skill_cache_items 4.0" in text
    assert "kernel_ready 1.0" in text
    assert "kernel_skill_run_queue_capacity 7.0" in text
    scraped.state = metrics.State(
        ready=False,
        active_runs=0,
        queued_runs=0,
        queue_capacity=0,
        engines_ready=0,
        cached_skills=0,
        namespaces={"dev": True},
        skills={},
        mcp_servers={},
    )
    text = (await scraped.get()).text
    assert 'kernel_namespace_healthy{namespace="team"}' not in text
    assert 'kernel_namespace_healthy{namespace="dev"} 1.0' in text
    assert "kernel_ready 0.0" in text


async def test_exemplars_lead_to_traces(scraped: Scraped) -> None:
    with exporting(), tracing.Request("GET /", SAMPLED):
        metrics.http_request("GET", "/exemplar", 200, 0.003)
    response = await scraped.get(accept=OPEN_METRICS)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    exemplars = [
        one.exemplar.labels
        for family in text_string_to_metric_families(response.text)  # type: ignore[no-untyped-call]
        for one in family.samples
        if one.exemplar and one.labels.get("path") == "/exemplar"
    ]
    assert exemplars == [{"trace_id": TRACE}]


async def test_promtool_finds_nothing_wrong(scraped: Scraped, promtool: Path) -> None:
    text = (await scraped.get()).text
    checked = await asyncio.create_subprocess_exec(
        promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await checked.communicate(text.encode())
    # Those of the client library are none of our business.
    assert [line for line in output.decode().splitlines() if "kernel_" in line] == []


async def test_without_the_address_there_are_no_metrics(
    scraped: Scraped, caplog: pytest.LogCaptureFixture
) -> None:
    server = MetricsServer(lambda: STATE)
    await server.start("127.0.0.1", int(scraped.url.rpartition(":")[2]))
    assert caplog.records[-1].levelname == "ERROR"
    assert "address already in use" in caplog.messages[-1]
    assert "METRICS_ADDRESS" in caplog.messages[-1]
    await server.close()


# --- the documentation ----------------------------------------------------------------------------

_DOCUMENT = Path(__file__).parents[2] / "docs" / "observability.md"


def test_the_documentation_has_every_metric_with_its_labels() -> None:
    rows = re.findall(r"^\| `(kernel_\w+)` \| (\w+) \|([^|]*)\|", _DOCUMENT.read_text(), re.M)
    documented = {name: (kind, set(re.findall("`(.+?)`", labels))) for name, kind, labels in rows}
    assert documented == exported()


def exported() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of all metrics of the kernel's own."""
    found = {}
    for collector in metrics.REGISTRY._collector_to_names:
        for family in collector.collect():
            if family.name.startswith("kernel_"):
                name = family.name + ("_total" if family.type == "counter" else "")
                found[name] = family.type, set(getattr(collector, "_labelnames", ()))
    return found


@pytest.fixture
def promtool() -> Path:
    from tests.telemetry.tools import needed

    return needed("promtool")
