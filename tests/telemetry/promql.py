"""What the dashboards and rules ask for: all their queries, and the metrics and labels in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from tools.dashboards import operators, skill_owners
from tools.dashboards.grafana import board

CHART = Path(__file__).parents[2] / "charts" / "pharia-kernel"
RULES = CHART / "rules" / "pharia-kernel.yaml"
BOARDS = {each.file: board(each) for each in (operators.BOARD, skill_owners.BOARD)}
TARGET_LABELS = {"job", "instance"}
"""Prometheus adds them to everything."""
_VARIABLES = {"$__rate_interval": "1m", "$__range": "5m"}


class Query(NamedTuple):
    where: str
    promql: str
    legend: str = ""


def expand(promql: str) -> str:
    """As Grafana sends it if all is selected in all variables."""
    for variable, value in _VARIABLES.items():
        promql = promql.replace(variable, value)
    return re.sub(r"\$\w+", ".*", promql)


def _targets(of: dict[str, Any]) -> Iterator[Query]:
    for panel in of["panels"]:
        for target in panel.get("targets", ()):
            where = f"{of['title']} / {panel['title']} {target['refId']}"
            yield Query(where, expand(target["expr"]), target["legendFormat"])


PANELS = [query for each in BOARDS.values() for query in _targets(each)]


def variables() -> list[tuple[str, str]]:
    """Selector and label of each variable that is filled with labels' values."""
    found = []
    for each in BOARDS.values():
        for variable in each["templating"]["list"]:
            if variable["type"] == "query":
                pattern = r"label_values\((.*), (\w+)\)"
                match = re.fullmatch(pattern, variable["query"]["query"])
                assert match, variable
                found.append((expand(match[1]), match[2]))
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def rule_queries() -> list[Query]:
    return [Query(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]


def all_queries() -> list[Query]:
    selectors = [Query(f"variable {label}", selector) for selector, label in variables()]
    return PANELS + rule_queries() + selectors


# --- metrics and labels ---------------------------------------------------------------------------


def selectors(promql: str) -> list[promql_parser.VectorSelector]:
    return [node for node in _nodes(promql_parser.parse(promql)) if _selects(node)]


def used(promql: str) -> dict[str, set[str]]:
    """Metrics, and labels that they must have: those of matchers, and those of ``by`` and ``on``
    around them."""
    tree = promql_parser.parse(promql)
    found: dict[str, set[str]] = {}
    for node in _nodes(tree):
        if _selects(node):
            names = {matcher.name for matcher in node.matchers.matchers}
            found.setdefault(node.name, set()).update(names)
        for selector in filter(_selects, _nodes(node)):
            found.setdefault(selector.name, set()).update(_grouped(node))
    return found


def labels_of(rule: dict[str, Any]) -> set[str]:
    """Labels of what a recording rule records, which its name begins with (the convention for such
    names: level, metric, operations), and which all its aggregations have."""
    return set(re.findall("[a-z]+", rule["record"].partition(":")[0]))


def _grouped(node: Any) -> Iterable[str]:
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
        return node.modifier.labels
    if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
        return node.modifier.matching.labels
    return ()


def _selects(node: Any) -> bool:
    return isinstance(node, promql_parser.VectorSelector)


def _nodes(tree: Any) -> list[Any]:
    nodes: list[Any] = []
    promql_parser.walk(tree, lambda node: nodes.append(node))
    return nodes
