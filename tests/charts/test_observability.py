"""Dashboards and alerts as the chart installs them."""

from __future__ import annotations

import json

import pytest
import yaml
from kubernetes_validate import validate

from tests.charts.conftest import CHART, NEWEST, OLDEST, Render, Rendered, Values

# Helm is built on first use.
pytestmark = pytest.mark.timeout(1800)

CONFIG_MAP_LIMIT = 1 << 20
"""Bytes of all data, for Kubernetes."""
MONITORED: Values = {
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Kernel"}},
}


def named(rendered: Rendered, kind: str, ending: str) -> dict[str, object]:
    (found,) = [m for m in rendered.all(kind) if m["metadata"]["name"].endswith(ending)]
    return found


def test_both_are_off_by_default(render: Render) -> None:
    rendered = render()
    assert "PrometheusRule" not in rendered.kinds
    assert len(rendered.all("ConfigMap")) == 1


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
def test_dashboards(render: Render, release: str) -> None:
    manifest = named(render(MONITORED, release), "ConfigMap", "-dashboards")
    validate(manifest, release, strict=True)
    metadata, data = manifest["metadata"], manifest["data"]
    assert isinstance(metadata, dict) and isinstance(data, dict)
    assert metadata["labels"]["grafana_dashboard"] == "1"
    assert metadata["annotations"] == {"grafana_folder": "Kernel"}
    assert {name: json.loads(text) for name, text in data.items()} == {
        f"pharia-kernel-{file.name}": json.loads(file.read_text())
        for file in (CHART / "dashboards").iterdir()
    }
    assert len(data) == 2
    assert sum(len(text.encode()) for text in data.values()) < CONFIG_MAP_LIMIT


def test_other_labels_for_the_sidecar(render: Render) -> None:
    values = {"dashboards": {"enabled": True, "labels": {"grafana_dashboard": "yes", "team": "a"}}}
    metadata = named(render(values), "ConfigMap", "-dashboards")["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["labels"].items() >= {("grafana_dashboard", "yes"), ("team", "a")}


def test_rules(render: Render) -> None:
    """What Prometheus makes of the file is tested with the file."""
    manifest = render(MONITORED)["PrometheusRule"]
    assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
    assert manifest["metadata"]["labels"]["release"] == "prometheus"
    file = CHART / "rules" / "pharia-kernel.yaml"
    assert manifest["spec"] == yaml.safe_load(file.read_text())


def test_namespaces_of_skills_are_not_taken_for_those_of_kubernetes(render: Render) -> None:
    (endpoint,) = render(MONITORED)["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True


def test_names_are_not_too_long(render: Render) -> None:
    manifest = named(render(MONITORED | {"fullnameOverride": "k" * 63}), "ConfigMap", "-dashboards")
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    assert len(metadata["name"]) <= 63
