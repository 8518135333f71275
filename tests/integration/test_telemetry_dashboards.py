"""A real Prometheus scrapes a kernel at work: all queries of dashboards and rules have an answer.

It scrapes as the chart's ServiceMonitor has it: what Kubernetes calls the namespace is a label of
the target, and the kernel's own label of that name wins.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import inference
from tests.integration.test_deployment import digest_of, saying, serves
from tests.support.faulty_llm import FaultyLlm, error, proper
from tests.support.kernel import NATIVE_TOOLS, KernelHome, KernelProcess, temporary_home, until
from tests.support.prometheus import Prometheus, prometheus
from tests.telemetry import promql

SKILLS = ("chat_04", "stream_chat", "tool_user", "tiny_echo", "user_error")
KUBERNETES = {"namespace": "platform", "pod": "kernel-0"}


class Site:
    """A kernel, and the Prometheus that watches it."""

    def __init__(self, kernel: KernelProcess, monitor: Prometheus, exposition: str) -> None:
        self.kernel = kernel
        self.monitor = monitor
        self.exposition = exposition


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(
    components: dict[str, Path],
    scripted_backend: FaultyLlm,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[Site, None]:
    scripted_backend.default = proper()
    settings = inference(scripted_backend) | {"engines": 1}
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, **settings) as home:
        config = home.folder / "config.toml"
        config.write_text(f'{config.read_text()}\nmcp-servers = ["http://127.0.0.1:1/mcp"]')
        home.deploy_all({name: components[name] for name in SKILLS})
        async with home.running() as kernel:
            line = next(m for m in kernel.messages() if m.startswith("Metrics on: "))
            target = line.removeprefix("Metrics on: ")
            async with prometheus(
                tmp_path_factory.mktemp("prometheus"),
                target,
                rules=promql.RULES,
                labels=KUBERNETES,
                honor_labels=True,
            ) as monitor:
                await exercise(home, kernel, scripted_backend)
                await watched(monitor)
                # Rates and quantiles need what changes from one scrape to the next.
                await exercise(home, kernel, scripted_backend)
                async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                    exposition = (await client.get(f"http://{target}/metrics")).text
                yield Site(kernel, monitor, exposition)


async def exercise(home: KernelHome, kernel: KernelProcess, backend: FaultyLlm) -> None:
    """Everything that is counted happens; a cold start comes last."""
    backend.script.clear()
    chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "params": {}}
    assert (await kernel.run("chat_04", chat)).is_success
    assert (await kernel.stream("stream_chat", chat)).end
    assert (await kernel.run("tool_user", {"a": 1, "b": 2})).is_success
    backend.will(error(401, message="scripted"))
    assert (await kernel.run("chat_04", chat)).is_error
    assert (await kernel.run("user_error", 1)).is_error
    assert (await kernel.run("invented", 1)).status_code == 404
    assert (await kernel.client.get("/health")).is_success
    await compile_something(home, kernel)
    assert (await kernel.client.delete("/cached_skills/dev/tiny_echo")).is_success
    assert (await kernel.run("tiny_echo", 1)).json() == 1


async def compile_something(home: KernelHome, kernel: KernelProcess) -> None:
    component = saying(secrets.token_hex(8))
    home.deploy("new", component)
    try:
        await serves(kernel, component, "dev/new")
    finally:
        for file in home.artifacts.glob(f"{digest_of(component).removeprefix('sha256:')}*"):
            file.unlink()


async def watched(monitor: Prometheus) -> None:
    """The last of what was exercised has been scraped, and so has all the rest."""

    async def cold() -> list[Any]:
        return await monitor.query("kernel_skill_cold_starts_total{name='tiny_echo'}")

    await until(cold, "prometheus has scraped the kernel")


# --- the queries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("query", promql.PANELS, ids=lambda query: query.where)
async def test_panels_show_data(site: Site, query: promql.Query) -> None:
    async def numbers() -> list[dict[str, Any]]:
        return [
            series
            for series in await site.monitor.query(query.promql)
            if not math.isnan(float(series["value"][1]))
        ]

    found = await until(numbers, query.promql)
    legend = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
    for series in found:
        # Prometheus leaves out labels whose value is empty, such as the model of a search.
        assert legend - {"model"} <= series["metric"].keys()


async def test_variables_have_values(site: Site) -> None:
    found = {}
    for selector, label in promql.variables():
        series = await site.monitor.get("series", **{"match[]": selector})
        found[label] = {each[label] for each in series}
    assert found["namespace"] >= {"dev"}
    assert "platform" not in found["namespace"]
    assert found["name"] >= set(SKILLS)
    assert found["job"] == {"kernel"}
    assert len(found["instance"]) == 1


async def test_metrics_and_labels_are_those_of_the_kernel(site: Site) -> None:
    exported: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(site.exposition):
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    for rule in promql.rules():
        if "record" in rule:
            exported[rule["record"]] = promql.labels_of(rule)
    for query in promql.all_queries():
        for metric, labels in promql.used(query.promql).items():
            assert labels <= exported[metric] | promql.TARGET_LABELS, query.where


async def test_values_of_labels_are_those_of_the_kernel(site: Site) -> None:
    """Those of which the kernel knows all; codes of errors come with the errors."""
    values: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(site.exposition):
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault((sample.name, label), set()).add(value)
    compared = set()
    for query in promql.all_queries():
        for selector in promql.selectors(query.promql):
            for matcher in selector.matchers.matchers:
                if matcher.name in {"reason", "result", "state", "path"}:
                    assert selector.name
                    there = values[selector.name, matcher.name]
                    assert set(matcher.value.split("|")) <= there, query.where
                    compared.add(matcher.name)
    assert compared == {"reason", "result", "state", "path"}


# --- the rules ------------------------------------------------------------------------------------


async def test_rules_can_be_evaluated(site: Site) -> None:
    async def healths() -> list[dict[str, Any]]:
        groups = (await site.monitor.get("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in rules) else rules

    rules = await until(healths, "all rules have been evaluated")
    assert len(rules) == len(promql.rules())
    assert [(r["name"], r["lastError"]) for r in rules if r["health"] != "ok"] == []


async def test_what_the_rules_record(site: Site) -> None:
    for rule in promql.rules():
        if "record" not in rule:
            continue

        async def recorded(name: str = rule["record"]) -> list[dict[str, Any]]:
            return await site.monitor.query(name)

        series = await until(recorded, rule["record"])
        for each in series:
            assert each["metric"].keys() - {"__name__"} == promql.labels_of(rule)


async def test_an_alert_waits_for_its_time(site: Site) -> None:
    """The MCP server that nobody serves."""

    async def pending() -> list[dict[str, Any]]:
        return await site.monitor.query('ALERTS{alertname="PhariaKernelMcpServersFailing"}')

    (alert,) = await until(pending, "the alert")
    assert alert["metric"]["alertstate"] == "pending"
    assert alert["metric"]["job"] == "kernel"
