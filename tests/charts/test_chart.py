"""What the chart makes of values, checked against the schemas of Kubernetes."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pharia_kernel import config
from pharia_kernel.config import sources
from tests.charts.conftest import CHART, NEWEST, OLDEST, ROOT, Refused, Render, Values

# Helm is built on first use.
pytestmark = pytest.mark.timeout(1800)

CONFIG = """
authorization-url = "https://iam.example.com"

[openai-inference]
url = "https://llm.example.com/v1"

[namespaces.team-a]
path = "skills"
skills = [{ name = "summary" }]
"""
STATELESS: Values = {
    "fullnameOverride": "kernel",
    "image": {"repository": "registry.example.com/kernel", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "pull"}],
    "config": CONFIG,
    "secrets": {"OPENAI_INFERENCE__TOKEN": "planted-secret"},
    "existingSecret": "others",
    "extraEnv": [{"name": "LOG_LEVEL", "value": "debug"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "engines": 3,
    "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
    "artifactCache": {"type": "ephemeral", "storageClass": "fast"},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "annotations": {"a": "b"},
        "hosts": ["kernel.example.com"],
        "tls": [{"hosts": ["kernel.example.com"], "secretName": "tls"}],
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "autoscaling": {"enabled": True, "activeRuns": 200, "queuedRuns": 1},
    "podDisruptionBudget": {"maxUnavailable": "25%"},
    "networkPolicy": {
        "from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
        "metricsFrom": [{"namespaceSelector": {}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "priorityClassName": "high",
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "extraVolumes": [{"name": "skills", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "skills", "mountPath": "/app/skills"}],
}
DOCUMENTS: Values = {
    "replicas": 1,
    "documentIndex": {"enabled": True, "storageClass": "fast"},
    "qdrant": {"enabled": True, "apiKeySecret": {"name": "qdrant", "key": "api-key"}},
}
CASES = {"defaults": {}, "stateless": STATELESS, "documents": DOCUMENTS}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_lint(helm: Path, tmp_path: Path, values: Values) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [helm, "lint", "--strict", CHART, "--values", file, "--kube-version", NEWEST],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
@pytest.mark.parametrize("release", [OLDEST, NEWEST])
def test_objects_are_what_kubernetes_takes(render: Render, values: Values, release: str) -> None:
    rendered = render(values, release)
    assert len(rendered.manifests) > 5
    for manifest in rendered.manifests:
        if manifest["kind"] != "ServiceMonitor":  # not a part of Kubernetes
            kubernetes_validate.validate(manifest, release, strict=True)


def test_what_there_is_by_default(render: Render) -> None:
    assert render().kinds == {
        "ConfigMap", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Service",
        "ServiceAccount",
    }  # fmt: skip


def test_everything(render: Render) -> None:
    assert render(STATELESS).kinds - render().kinds == {
        "HorizontalPodAutoscaler", "Ingress", "Secret", "ServiceMonitor",
    }  # fmt: skip
    documents = render(DOCUMENTS)
    assert documents.kinds - render().kinds == {"PersistentVolumeClaim", "StatefulSet"}
    assert "PodDisruptionBudget" not in documents.kinds  # it would keep its node from draining


# --- security ------------------------------------------------------------------------------------


def test_pods_have_no_privileges(render: Render) -> None:
    templates = [
        manifest["spec"].get("template", {}).get("spec", manifest["spec"])
        for values in CASES.values()
        for manifest in render(values).manifests
        if manifest["kind"] in {"Deployment", "StatefulSet", "Pod"}
    ]
    assert len(templates) == 7
    for pod in templates:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_secrets_are_in_the_secret_and_nowhere_else(render: Render) -> None:
    rendered = render(STATELESS)
    holders = [m["kind"] for m in rendered.manifests if "planted-secret" in json.dumps(m)]
    assert holders == ["Secret"]
    assert rendered.container["envFrom"] == [
        {"secretRef": {"name": "kernel"}},
        {"secretRef": {"name": "others"}},
        {"configMapRef": {"name": "more"}},
    ]


def test_network(render: Render) -> None:
    policy = render()["NetworkPolicy"]["spec"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["http", "metrics"]
    metadata = {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}
    assert metadata in [to["ipBlock"] for to in policy["egress"][1]["to"]]
    own = render(STATELESS)["NetworkPolicy"]["spec"]
    assert own["egress"] == STATELESS["networkPolicy"]["egress"]
    assert own["ingress"][0]["from"] == STATELESS["networkPolicy"]["from"]


def test_selectors_find_the_pods_of_the_kernel_only(render: Render) -> None:
    rendered = render(DOCUMENTS | {"serviceMonitor": {"enabled": True}})
    labels = rendered["Deployment"]["spec"]["template"]["metadata"]["labels"]
    (stateful,) = [m for m in rendered.manifests if m["kind"] == "StatefulSet"]
    others = [
        stateful["spec"]["template"]["metadata"]["labels"],
        rendered["Pod"]["metadata"]["labels"],
    ]
    selectors = [
        rendered["Deployment"]["spec"]["selector"]["matchLabels"],
        rendered["Service"]["spec"]["selector"],
        rendered["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not any(selector.items() <= other.items() for other in others)
    monitored = rendered["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= rendered["Service"]["metadata"]["labels"].items()


# --- how the kernel is started -------------------------------------------------------------------


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The variables as the kubelet sets them, on a node that grants what was asked for."""
    downward = {"limits.memory": str(6 << 30), "limits.cpu": "2", "requests.cpu": "1"}
    secret = "from-a-secret"
    return {
        entry["name"]: entry["value"]
        if "value" in entry
        else downward[entry["valueFrom"]["resourceFieldRef"]["resource"]]
        if "resourceFieldRef" in entry["valueFrom"]
        else secret
        for entry in container["env"]
    }


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_kernel_takes_its_configuration(render: Render, tmp_path: Path, values: Values) -> None:
    rendered = render(values)
    (tmp_path / "config.toml").write_text(rendered["ConfigMap"]["data"]["config.toml"])
    secrets = rendered["Secret"]["stringData"] if "Secret" in rendered.kinds else {}
    environ = environment(rendered.container) | secrets
    settings = config.load(directory=tmp_path, environ=environ)
    ports = {port["name"]: port["containerPort"] for port in rendered.container["ports"]}
    assert (settings.kernel_address.port, settings.metrics_address.port) == (8081, 9000)
    assert ports == {"http": 8081, "metrics": 9000}
    mounts = {mount["mountPath"] for mount in rendered.container["volumeMounts"]}
    assert str(settings.wasmtime_cache_dir) in mounts
    assert settings.artifact_cache_size == 8 << 30
    assert settings.memory_limit == 6 << 30
    grace = rendered.pod["terminationGracePeriodSeconds"]
    assert grace >= settings.drain_timeout + 5 + 10
    if values is DOCUMENTS:
        assert settings.document_index is not None
        assert str(settings.document_index.directory).startswith("/var/lib/pharia-kernel/")
        (server,) = [
            m["metadata"]["name"] for m in rendered.manifests
            if m["kind"] == "Service" and "qdrant" in m["metadata"]["name"]
        ]  # fmt: skip
        assert settings.document_index.qdrant_url == f"http://{server}:6333"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"requests": {"cpu": "1"}}, "requests.cpu"),
        ({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}, "limits.cpu"),
        ({"requests": {"cpu": None}, "limits": {"cpu": None}}, None),
    ],
)
def test_engines_follow_the_processor(
    render: Render, resources: Values, expected: str | None
) -> None:
    env = {e["name"]: e for e in render({"resources": resources}).container["env"]}
    found = env.get("ENGINES", {}).get("valueFrom", {}).get("resourceFieldRef", {}).get("resource")
    assert found == expected


def test_probes(render: Render) -> None:
    container = render().container
    paths = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert paths == {
        "startupProbe": {"path": "/health", "port": "http"},
        "livenessProbe": {"path": "/health", "port": "http"},
        "readinessProbe": {"path": "/ready", "port": "http"},
    }


def test_a_changed_configuration_starts_new_pods(render: Render) -> None:
    def annotations(values: Values) -> Any:
        return render(values)["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    assert annotations({"config": 'log-level = "info"'}) == annotations(
        {"config": 'log-level = "info"'}
    )
    assert annotations({"config": 'log-level = "info"'}) != annotations(
        {"config": 'log-level = "debug"'}
    )
    assert annotations({"secrets": {"A": "1"}}) != annotations({"secrets": {"A": "2"}})


def test_autoscaling(render: Render) -> None:
    rendered = render(STATELESS)
    spec = rendered["HorizontalPodAutoscaler"]["spec"]
    assert "replicas" not in rendered["Deployment"]["spec"]
    assert spec["scaleTargetRef"]["name"] == rendered["Deployment"]["metadata"]["name"]
    metrics = {
        metric.get("resource", metric.get("pods", {}).get("metric"))["name"]
        for metric in spec["metrics"]
    }
    assert metrics == {"cpu", "kernel_skill_runs_active", "kernel_skill_run_queue_length"}


def test_only_one_kernel_has_the_documents_open(render: Render) -> None:
    rendered = render(DOCUMENTS)
    assert rendered["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    claim = rendered["PersistentVolumeClaim"]["metadata"]
    assert claim["annotations"]["helm.sh/resource-policy"] == "keep"
    volumes = {volume["name"]: volume for volume in rendered.pod["volumes"]}
    assert volumes["documents"]["persistentVolumeClaim"]["claimName"] == claim["name"]


def test_service_monitor(render: Render) -> None:
    rendered = render(STATELESS)
    monitor = rendered["ServiceMonitor"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    (endpoint,) = monitor["spec"]["endpoints"]
    metrics = [
        service["metadata"]["name"]
        for service in rendered.all("Service")
        if endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    ]
    assert metrics == ["kernel-metrics"]  # not on the load balancer
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["somewhere"]}


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        ({}, {"emptyDir": {"sizeLimit": "10Gi"}}),
        (
            {"type": "existingClaim", "existingClaim": "mine"},
            {"persistentVolumeClaim": {"claimName": "mine"}},
        ),
    ],
)
def test_artifact_cache(render: Render, cache: Values, volume: Values) -> None:
    volumes = {v.pop("name"): v for v in render({"artifactCache": cache}).pod["volumes"]}
    assert volumes["artifacts"] == volume


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": "two"}, "at '/replicas': got string, want integer"),
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"image": {"digest": "latest"}}, "at '/image/digest'"),
        ({"artifactCache": {"size": "lots"}}, "at '/artifactCache/size'"),
        ({"secrets": {"lower": "x"}}, "'lower' does not match pattern"),
        (
            DOCUMENTS | {"qdrant": {"enabled": True, "storage": {"size": 3}}},
            "at '/storage/size': got number, want string",
        ),
        ({"qdrant": {"enabled": True}}, "qdrant.enabled needs documentIndex.enabled"),
        ({"documentIndex": {"enabled": True}}, "documentIndex.enabled needs replicas: 1, not 2"),
        (
            {"replicas": 1, "documentIndex": {"enabled": True}, "autoscaling": {"enabled": True}},
            "documentIndex.enabled and autoscaling.enabled exclude each other",
        ),
        ({"artifactCache": {"type": "existingClaim"}}, "artifactCache.existingClaim names none"),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}},
            "autoscaling.minReplicas is greater than autoscaling.maxReplicas",
        ),
        ({"autoscaling": {"enabled": True, "cpu": 0}}, "needs at least one of autoscaling.cpu"),
        (
            {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
            "autoscaling.cpu is a share of resources.requests.cpu",
        ),
        ({"ingress": {"enabled": True}}, "ingress.enabled needs ingress.hosts"),
        ({"config": "engines = four"}, "config is not TOML"),
        ({"config": 'kernel-address = "[::]:1"'}, "use the value service.port instead"),
        ({"config": 'drain-timeout = "1h"'}, "use the value drainTimeoutSeconds instead"),
        (
            {"config": '[namespaces.a]\nmcp-servers = [{url = "https://a", token = "s"}]'},
            "config.namespaces.a.mcp-servers[0].token is a secret",
        ),
    ],
)
def test_wrong_values_are_refused_with_the_reason(
    render: Render, values: Values, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        render(values)
    assert message in " ".join(str(refused.value).split())


def test_no_secret_of_the_kernel_gets_into_the_config_map(render: Render) -> None:
    for table, key in sorted(sources._SECRETS):
        with pytest.raises(Refused, match=f"{key} is a secret") as refused:
            render({"config": f'[{table}]\n[{table}.x]\n{key} = "planted"'})
        assert "planted" not in str(refused.value)


# --- versions ------------------------------------------------------------------------------------


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]
    subchart = yaml.safe_load((CHART / "charts/qdrant/Chart.yaml").read_text())
    assert [(d["name"], d["version"]) for d in chart["dependencies"]] == [
        (subchart["name"], subchart["version"])
    ]


def test_the_qdrant_server_fits_the_client() -> None:
    """They support each other within one minor release."""
    chart = yaml.safe_load((CHART / "charts/qdrant/Chart.yaml").read_text())
    lock = (ROOT / "requirements.lock").read_text()
    (client,) = [line for line in lock.splitlines() if line.startswith("qdrant-client==")]
    minor = client.removeprefix("qdrant-client==").split()[0].rpartition(".")[0]
    assert chart["appVersion"].rpartition(".")[0] == minor
