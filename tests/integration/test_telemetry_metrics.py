"""Metrics of a whole kernel: read as text, and by a real Prometheus. And secrets, in all of it."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import BACKEND_TOKEN, NewHome, inference
from tests.support.faulty_llm import FaultyLlm, error, proper
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, temporary_home, until
from tests.support.prometheus import prometheus
from tests.telemetry.collector import Collector, http_collector
from tests.telemetry.test_metrics import exported
from tests.telemetry.tools import needed

CALLERS_TOKEN = "token-of-the-caller-hunter2"
PROMPT = "prompt-of-the-caller-hunter3"
COLLECTORS_PASSWORD = "password-of-the-collector-hunter4"
SKILLS = ("chatty", "chat_04", "stream_chat", "tool_user", "greet", "tiny_echo", "user_error")
AUTHORIZED = {"Authorization": f"Bearer {CALLERS_TOKEN}"}


class Metrics:
    def __init__(self, text: str) -> None:
        self._samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, /, **labels: str) -> float:
        return float(self._samples.get((name, tuple(sorted(labels.items()))), 0.0))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._samples}


async def scraped(kernel: KernelProcess) -> tuple[str, Metrics]:
    url = next(m for m in kernel.messages() if m.startswith("Metrics on: "))
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        address = url.removeprefix("Metrics on: ")
        text = (await client.get(f"http://{address}/metrics")).text
    return text, Metrics(text)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def collector() -> AsyncGenerator[Collector, None]:
    async with http_collector() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy(
    components: dict[str, Path], scripted_backend: FaultyLlm, collector: Collector
) -> AsyncGenerator[KernelProcess, None]:
    """A kernel in which everything that is counted has happened."""
    endpoint = collector.endpoint.replace("http://", f"http://operator:{COLLECTORS_PASSWORD}@")
    settings = inference(scripted_backend) | {
        "otel_endpoint": endpoint,
        "otel_sampling_ratio": "1",
        "log_level": "debug",
        "engines": 1,
    }
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, **settings) as home:
        home.deploy_all({name: components[name] for name in SKILLS})
        async with home.running() as kernel:
            await exercise(kernel, scripted_backend)
            yield kernel


async def exercise(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.default = proper()
    backend.script.clear()
    asked = {"model": "m", "text": PROMPT}
    chat = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "params": {}}
    for _ in range(3):
        assert (await kernel.run("chatty", asked, headers=AUTHORIZED)).status_code == 200
    assert (await kernel.stream("stream_chat", chat, headers=AUTHORIZED)).end
    assert (await kernel.run("tool_user", {"a": 1, "b": 2}, headers=AUTHORIZED)).is_success
    backend.will(error(400, message=f"I don't like {BACKEND_TOKEN}"))
    assert (await kernel.run("chat_04", chat, headers=AUTHORIZED)).is_error
    assert (await kernel.run("user_error", PROMPT, headers=AUTHORIZED)).is_error
    for name in ("invented-1", "invented-2"):
        assert (await kernel.run(name, PROMPT, headers=AUTHORIZED)).status_code == 404
    for call in ("chat", "complete", "no_such_function"):
        await kernel.client.post(
            f"/csi/v1/{call}?token={CALLERS_TOKEN}", json=[], headers=AUTHORIZED
        )
    assert (await kernel.metadata("greet")).is_success


# --- what is counted ------------------------------------------------------------------------------


async def test_runs(busy: KernelProcess) -> None:
    _, value = await scraped(busy)
    chatty = {"namespace": "dev", "name": "chatty"}
    unknown = {"namespace": "unknown", "name": "unknown"}
    run = "/v1/skills/{namespace}/{name}/run"
    assert value("kernel_http_requests_total", method="POST", path=run, status="404") == 2
    assert value("kernel_skill_execution_total", **chatty, status="ok") == 3
    assert value("kernel_skill_execution_duration_seconds_count", **chatty, status="ok") == 3
    assert value("kernel_skill_fetch_duration_seconds_count", **chatty) == 3
    failed = {"namespace": "dev", "name": "user_error"}
    assert value("kernel_skill_execution_total", **failed, status="logic_error") == 1
    assert value("kernel_skill_runs_total", **failed, outcome="skill_failed") == 1
    assert value("kernel_skill_runs_total", **unknown, outcome="skill_not_found") == 2
    assert value("kernel_skill_stream_duration_seconds_count", namespace="dev", name="stream_chat")
    assert value(
        "kernel_skill_stream_first_event_seconds_count", namespace="dev", name="stream_chat"
    )


async def test_system_calls(busy: KernelProcess) -> None:
    _, value = await scraped(busy)
    assert value("kernel_csi_requests_total", function="chat") == 4
    assert value("kernel_csi_requests_total", function="chat_stream") == 1
    assert value("kernel_csi_requests_total", function="invoke_tool") == 3
    assert value("kernel_csi_request_duration_seconds_count", function="chat", model="m") == 4
    assert value("kernel_inference_first_chunk_seconds_count", model="m") == 1
    tokens = {"model": "m", "namespace": "dev", "name": "chatty"}
    assert value("kernel_inference_tokens_total", **tokens, direction="input") == 3
    assert value("kernel_inference_tokens_total", **tokens, direction="output") == 15
    assert value("kernel_tool_calls_total", namespace="dev", tool="add", outcome="ok") == 1
    assert value("kernel_tool_calls_total", namespace="unknown", tool="unknown", outcome="error")


async def test_the_state_of_the_kernel(busy: KernelProcess) -> None:
    _, value = await scraped(busy)
    assert value("kernel_skill_cache_items") == len(SKILLS)
    assert value("kernel_skills", state="serving") == len(SKILLS)
    assert value("kernel_ready") == value("kernel_engines_ready") == 1
    assert value("kernel_skill_run_queue_capacity") > 0
    assert value("kernel_skill_runs_active") == value("kernel_skill_run_queue_length") == 0
    looked_up = [value("kernel_artifact_cache_requests_total", result=r) for r in ("hit", "miss")]
    assert sum(looked_up) == len(SKILLS)
    assert value("kernel_registry_requests_total", operation="check", outcome="ok") > 0
    assert value("process_resident_memory_bytes") > 0


async def test_every_metric_is_exported(busy: KernelProcess) -> None:
    """Those with labels have a series once something was counted; all have a type."""
    text, _ = await scraped(busy)
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE kernel_")}
    assert typed == set(exported())


async def test_promtool(busy: KernelProcess) -> None:
    text, _ = await scraped(busy)
    check = await asyncio.create_subprocess_exec(
        needed("promtool"), "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await check.communicate(text.encode())
    assert [line for line in output.decode().splitlines() if "kernel_" in line] == []


# --- Prometheus -----------------------------------------------------------------------------------


async def test_prometheus_scrapes_the_kernel(busy: KernelProcess, tmp_path: Path) -> None:
    url = next(m for m in busy.messages() if m.startswith("Metrics on: "))
    query = "sum by (name) (kernel_skill_execution_total{namespace='dev',name='chatty'})"
    async with prometheus(tmp_path, url.removeprefix("Metrics on: ")) as server:

        async def result() -> list[dict[str, Any]]:
            return await server.query(query)

        (series,) = await until(result, "prometheus has scraped the kernel")
        targets = (await server.get("targets"))["activeTargets"]
    assert series["metric"] == {"name": "chatty"} and series["value"][1] == "3"
    assert [(t["health"], t["lastError"]) for t in targets] == [("up", "")]


# --- secrets --------------------------------------------------------------------------------------


async def test_secrets_stay_secret(busy: KernelProcess, collector: Collector) -> None:
    """In logs (at level debug), traces (without content), metrics, and answers to mistakes."""
    text, _ = await scraped(busy)
    chat = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "params": {}}
    wrong = [chat | {"messages": PROMPT}]
    answers = [
        await busy.run("chat_04", {"broken": PROMPT}, headers=AUTHORIZED),
        await busy.run("no-such-skill", PROMPT, headers=AUTHORIZED),
        await busy.client.post("/csi/v1/chat", json=wrong, headers=AUTHORIZED),
    ]
    assert all(answer.is_error for answer in answers)

    async def exports() -> bool:
        return any(span.name == "chat" and span.failed for span in collector.spans)

    await until(exports, "the spans are exported")
    traces = b"".join(collector.payloads)
    assert b"skill_execution" in traces
    for secret in (CALLERS_TOKEN, BACKEND_TOKEN, COLLECTORS_PASSWORD):
        assert secret not in text
        assert secret not in busy.log()
        assert secret.encode() not in traces
        assert not any(secret in answer.text for answer in answers)
    assert PROMPT not in text
    assert PROMPT not in busy.log()
    assert PROMPT.encode() not in traces


# --- trouble --------------------------------------------------------------------------------------


async def test_a_kernel_whose_metrics_address_is_taken(
    busy: KernelProcess, components: dict[str, Path], new_home: NewHome
) -> None:
    url = next(m for m in busy.messages() if m.startswith("Metrics on: "))
    home = new_home(metrics_address=url.removeprefix("Metrics on: "))
    home.deploy("tiny_echo", components["tiny_echo"])
    async with home.running() as kernel:
        assert (await kernel.run("tiny_echo", 1)).json() == 1
        (line,) = [e for e in kernel.entries() if "no metrics are served" in e["message"]]
        assert line["level"] == "error" and "METRICS_ADDRESS" in line["message"]
