"""Versions and the changelog come from commit messages; tried out in a repository of their own."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CZ = Path(sysconfig.get_path("scripts")) / "cz"


class Repository:
    """A checkout with the project's version files, released once."""

    FILES = (
        "pyproject.toml",
        "charts/pharia-kernel/Chart.yaml",
        "sdk/pyproject.toml",
        "sdk/src/pharia_kernel_sdk/version.py",
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in self.FILES:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.git("init", "-q", "-b", "main")
        for key, value in (("user.name", "N"), ("user.email", "n@example.com")):
            self.git("config", key, value)
        self.git("config", "commit.gpgsign", "false")
        self.git("config", "tag.gpgsign", "false")
        self.git("add", ".")
        self.commit("feat: the beginning")
        self.git("tag", f"v{self.version}")

    def git(self, *arguments: str) -> str:
        return subprocess.check_output(["git", *arguments], cwd=self.folder, text=True)

    def commit(self, message: str) -> None:
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def cz(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([CZ, *arguments], cwd=self.folder, capture_output=True, text=True)

    @property
    def version(self) -> str:
        return str(self.project("pyproject.toml")["version"])

    def project(self, file: str) -> dict[str, Any]:
        project: dict[str, Any] = tomllib.loads((self.folder / file).read_text())["project"]
        return project

    def sdk_constants(self) -> dict[str, str]:
        """Of the module that tells versions to components."""
        constants: dict[str, str] = {}
        exec((self.folder / "sdk/src/pharia_kernel_sdk/version.py").read_text(), constants)
        return constants


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_release(repository: Repository) -> None:
    major, minor, _ = map(int, repository.version.split("."))
    wit = repository.sdk_constants()["WIT"]
    repository.commit("fix(engine): a leak")
    repository.commit("feat(oci): pull by digest")
    repository.commit("docs: nothing that users see")
    done = repository.cz("bump", "--yes")
    assert done.returncode == 0, done.stderr
    version = f"{major}.{minor + 1}.0"
    assert repository.version == version
    chart = yaml.safe_load((repository.folder / "charts/pharia-kernel/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
    assert chart["dependencies"][0]["version"] == "0.1.0"  # has a version of its own
    sdk = repository.project("sdk/pyproject.toml")
    assert sdk["version"] == repository.sdk_constants()["SDK"] == version
    before = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]
    assert sdk["dependencies"] == before["dependencies"]  # have versions of their own
    assert repository.sdk_constants()["WIT"] == wit
    changelog = (repository.folder / "CHANGELOG.md").read_text()
    assert changelog.startswith(f"## v{version} (")
    assert "- **oci**: pull by digest" in changelog
    assert "- **engine**: a leak" in changelog
    assert "nothing that users see" not in changelog
    assert f"v{version}" in repository.git("tag").splitlines()
    assert repository.git("log", "-1", "--format=%s").strip() == f"chore(release): {version}"
    assert repository.git("status", "--porcelain") == ""
    # The commit of a release is a conventional one itself.
    assert repository.cz("check", "--rev-range", "HEAD~4..HEAD").returncode == 0


def test_only_fixes_make_a_patch(repository: Repository) -> None:
    major, minor, patch = map(int, repository.version.split("."))
    repository.commit("fix: a leak")
    assert repository.cz("bump", "--yes").returncode == 0
    assert repository.version == f"{major}.{minor}.{patch + 1}"


@pytest.mark.parametrize(
    ("message", "accepted"),
    [
        ("feat(engine)!: no more of that\n\nBREAKING CHANGE: do this", True),
        ("fix: a leak", True),
        ("Fixed a leak", False),
        ("fix a leak", False),
        ("bench: faster", False),
    ],
)
def test_messages(repository: Repository, message: str, accepted: bool) -> None:
    repository.commit(message)
    assert (repository.cz("check", "--rev-range", "HEAD~1..HEAD").returncode == 0) is accepted
