"""Boards in Grafana's JSON model: https://grafana.com/docs/grafana/latest/visualizations/dashboards/
build-dashboards/view-dashboard-json-model/"""

from __future__ import annotations

import json
from typing import Any

from tools.dashboards.model import Board, Kind, Panel, Query, Row, Variable

SCHEMA = 39
"""Version of the JSON model, of Grafana 11; newer ones migrate it."""
COLUMNS = 24

Json = dict[str, Any]
_DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def board(description: Board) -> Json:
    """The whole dashboard."""
    return {
        "uid": description.uid,
        "title": description.title,
        "description": description.description,
        "tags": ["pharia-kernel"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [_link()],
        "templating": {"list": [_datasource(), *map(_variable, description.variables)]},
        "panels": _panels(description.rows),
    }


def _link() -> Json:
    """To the other boards, with the same time and variables."""
    return {
        "type": "dashboards",
        "title": "PhariaKernel",
        "tags": ["pharia-kernel"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _variable(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # Also series that lack the label, which "one of those known" would not select.
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(rows: tuple[Row, ...]) -> list[Json]:
    """With their places on the grid: rows one beneath the other, panels from left to right."""
    panels: list[Json] = []
    top = 0
    for row in rows:
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": row.title, "collapsed": False,
             "gridPos": place, "panels": []}
        )  # fmt: skip
        top += 1
        left = 0
        for panel in row.panels:
            height = _height(panel)
            if left + panel.width > COLUMNS:
                left, top = 0, top + height
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += max(map(_height, row.panels))
    return panels


def _height(panel: Panel) -> int:
    return 4 if panel.kind == "stat" else 8


def _panel(panel: Panel) -> Json:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": [_target(panel, *each) for each in zip("ABCDEFGH", panel.queries, strict=False)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


_OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
    },
    "table": {"showHeader": True},
}


def _target(panel: Panel, letter: str, query: Query) -> Json:
    target = {
        "refId": letter,
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
    }
    if panel.kind == "table":
        return target | {"format": "table", "instant": True, "range": False}
    return target | {"range": True}


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel)}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {"fillOpacity": 20 if panel.stacked else 0, "stacking": stacking}
    return defaults


def _thresholds(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.bad_from is not None:
        steps.append({"color": "red", "value": panel.bad_from})
    if panel.bad_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.bad_below}]
    return {"mode": "absolute", "steps": steps}


def text(description: Board) -> str:
    """The file's content."""
    return json.dumps(board(description), indent=2, ensure_ascii=False) + "\n"
