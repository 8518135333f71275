"""The chart, rendered by Helm itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.go_tools import go_tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "pharia-kernel"
OLDEST, NEWEST = "1.30", "1.37"
"""Releases of Kubernetes whose schemas are checked."""

Values = dict[str, Any]
Manifest = dict[str, Any]


class Refused(Exception):
    """What Helm says to values that it does not take."""


class Rendered:
    """The objects of a release with the name ``test``."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.manifests = manifests

    def __getitem__(self, kind: str) -> Manifest:
        """The kernel's object of this kind, which has to exist exactly once."""
        (manifest,) = self.all(kind)
        return manifest

    def all(self, kind: str) -> list[Manifest]:
        return [
            manifest
            for manifest in self.manifests
            if manifest["kind"] == kind and "qdrant" not in manifest["metadata"]["name"]
        ]

    @property
    def kinds(self) -> set[str]:
        return {manifest["kind"] for manifest in self.manifests}

    @property
    def pod(self) -> Manifest:
        return dict(self["Deployment"]["spec"]["template"]["spec"])

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["containers"]
        return dict(container)


Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def helm() -> Path:
    return go_tool("helm")


@pytest.fixture
def render(helm: Path, tmp_path: Path) -> Render:
    """``render(values, kubernetes)`` returns the objects or raises ``Refused``."""

    def render(values: Values | None = None, kubernetes: str = NEWEST) -> Rendered:
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        done = subprocess.run(
            [
                helm, "template", "test", CHART, "--namespace", "somewhere",
                "--kube-version", kubernetes, "--values", file,
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
        if done.returncode:
            raise Refused(done.stderr)
        return Rendered([m for m in yaml.safe_load_all(done.stdout) if m])

    return render
