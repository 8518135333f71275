"""The dashboards and rules as they are written; ``tests/integration`` asks a real Prometheus."""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pharia_kernel.errors import KernelError
from tests.telemetry import promql
from tests.telemetry.test_metrics import exported
from tests.telemetry.tools import needed
from tools.dashboards import __main__ as command
from tools.dashboards.grafana import COLUMNS, text
from tools.dashboards.queries import NOT_FAILED

ROOT = Path(__file__).parents[2]
RULES_TEST = Path(__file__).with_name("rules_test.yaml")


# --- the files ------------------------------------------------------------------------------------


def test_the_files_are_what_make_dashboards_writes() -> None:
    written = {each.file: text(each) for each in command.BOARDS}
    found = {path.name: path.read_text() for path in command.FOLDER.iterdir()}
    assert found == written, "run `make dashboards`"


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    assert command.main(["--check"]) == 1
    assert "stale: operators.json, skill-owners.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert command.main([]) == command.main(["--check"]) == 0
    (tmp_path / "operators.json").write_text("{}")
    assert command.main(["--check"]) == 1


@pytest.mark.parametrize("board", promql.BOARDS.values(), ids=promql.BOARDS)
def test_panels_have_a_place_of_their_own(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    covered: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS, panel["title"]
        cells = set(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        )
        assert not cells & covered, panel["title"]
        covered |= cells


def test_every_variable_is_used_and_every_used_one_exists() -> None:
    for board in promql.BOARDS.values():
        there = {variable["name"] for variable in board["templating"]["list"]}
        queries = [str(panel.get("targets")) for panel in board["panels"]]
        asked = set(re.findall(r"\$(\w+)", " ".join(queries)))
        assert asked - {"__rate_interval", "__range"} == there - {"datasource"}
        assert {panel["datasource"]["uid"] for panel in board["panels"] if "targets" in panel} == {
            "${datasource}"
        }


# --- the queries ----------------------------------------------------------------------------------


@functools.cache
def known() -> dict[str, set[str]]:
    """Labels of all series: of the kernel's metrics, of what the rules record, and Prometheus'."""
    series: dict[str, set[str]] = {"up": set()}
    for name, (kind, labels) in exported().items():
        if kind == "histogram":
            series |= {f"{name}_count": labels, f"{name}_sum": labels}
            series[f"{name}_bucket"] = labels | {"le"}
        else:
            series[name] = labels
    for rule in promql.rules():
        if "record" in rule:
            series[rule["record"]] = promql.labels_of(rule)
    series |= {"process_cpu_seconds_total": set(), "process_resident_memory_bytes": set()}
    return series


@pytest.mark.parametrize("query", promql.all_queries(), ids=lambda query: query.where)
def test_queries_use_metrics_and_labels_that_exist(query: promql.Query) -> None:
    series = known()
    used = promql.used(query.promql)
    assert used
    for metric, labels in used.items():
        assert metric in series
        assert labels <= series[metric] | promql.TARGET_LABELS, metric


def test_the_check_finds_what_does_not_exist() -> None:
    query = 'sum by (b) (rate(one_total{a="1"}[5m])) / on (c) max by (c) (two) > 0'
    assert promql.used(query) == {"one_total": {"a", "b", "c"}, "two": {"c"}}


def test_every_metric_is_on_a_board() -> None:
    asked = {name for query in promql.PANELS for name in promql.used(query.promql)}
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name in asked}
    assert set(exported()) - shown == set()


def matchers(label: str) -> Iterator[str]:
    """Values that queries compare the label with."""
    for query in promql.all_queries():
        for selector in promql.selectors(query.promql):
            for matcher in selector.matchers.matchers:
                if matcher.name == label and matcher.value != ".*":
                    yield matcher.value


def test_codes_of_errors_exist() -> None:
    def codes(error: type[KernelError]) -> Iterator[str]:
        yield error.code
        for kind in error.__subclasses__():
            yield from codes(kind)

    compared = {value for label in ("outcome", "code") for value in matchers(label)}
    assert len(compared) == 3
    named = {code for value in compared for code in value.split("|")}
    assert named <= {*codes(KernelError), "ok", "cancelled"}


def test_boards_and_rules_mean_the_same_by_failures() -> None:
    assert {value for value in matchers("outcome") if value != "ok|cancelled"} == {NOT_FAILED}


# --- the rules ------------------------------------------------------------------------------------


def test_promtool_takes_the_rules() -> None:
    run("check", "rules", promql.RULES)


def test_alerts_fire_when_they_should() -> None:
    run("test", "rules", RULES_TEST)


def run(*arguments: str | Path) -> None:
    done = subprocess.run(
        [needed("promtool"), *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    cases = [
        case
        for test in yaml.safe_load(RULES_TEST.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
    ]
    names = {alert["alert"] for alert in promql.alerts()}
    assert {case["alertname"] for case in cases} == names
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names


def test_every_alert_says_what_it_is_about_and_what_to_do() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    documented = re.findall(r"^\| `(PhariaKernel\w+)` \| (\w+) \| .{40,} \|$", text, re.M)
    assert documented == [
        (alert["alert"], alert["labels"]["severity"]) for alert in promql.alerts()
    ]
    for alert in promql.alerts():
        assert set(alert["annotations"]) == {"summary", "description"}
