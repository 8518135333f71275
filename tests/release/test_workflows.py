"""The workflows of continuous integration: well-formed, pinned, and in step with the project."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.go_tools import go_tool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
_PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def load(path: Path) -> dict[str, Any]:
    # YAML 1.1 takes the key `on` for a truth value.
    return {str(key): value for key, value in yaml.safe_load(path.read_text()).items()}


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.timeout(900)
def test_actionlint() -> None:
    done = subprocess.run(
        [go_tool("actionlint"), "-color=false", *WORKFLOWS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_runs_that_could_change_behind_our_back(path: Path) -> None:
    workflow = load(path)
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [action for action in used if not _PINNED.fullmatch(action)] == []
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "uses" in job or job["timeout-minutes"] <= 120
        assert not str(job.get("runs-on", "")).endswith("latest")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_scripts_contain_no_expressions(path: Path) -> None:
    """What others may choose, such as the name of a branch, would be executed."""
    scripts = [step["run"] for step in steps(load(path)) if "run" in step]
    assert scripts
    assert [script for script in scripts if "${{" in script] == []


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    called = {
        target
        for path in WORKFLOWS
        for step in steps(load(path))
        for target in re.findall(r"^make ([\w-]+)", step.get("run", ""), re.MULTILINE)
    }
    assert called >= {"commits", "image", "release-check"}
    assert [target for target in called if f"\n{target}: " not in makefile] == []


def test_the_tag_of_a_version_starts_a_release() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tool["commitizen"]["tag_format"] == "v$version"
    assert load(FOLDER / "release.yml")["True"] == {"push": {"tags": ["v*"]}}


def test_both_architectures_are_built_and_joined() -> None:
    jobs = load(FOLDER / "release.yml")["jobs"]
    built = {entry["architecture"] for entry in jobs["image"]["strategy"]["matrix"]["include"]}
    assert built == {"amd64", "arm64"}
    joined = "".join(step.get("run", "") for step in jobs["index"]["steps"])
    assert "for architecture in amd64 arm64;" in joined
    assert set(jobs["publish"]["needs"]) == {"packages", "index"}


def test_all_that_was_made_is_attested_and_published() -> None:
    jobs = load(FOLDER / "release.yml")["jobs"]
    checksums = [
        step.get("with", {}).get("subject-checksums") for step in jobs["packages"]["steps"]
    ]
    assert "dist/SHA256SUMS" in checksums
    (published,) = (s["run"] for s in jobs["publish"]["steps"] if "gh release" in s.get("run", ""))
    assert published.endswith(" dist/*")
