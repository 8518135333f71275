from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from tools.release_check import write_checksums
from tools.release_provenance import write_provenance


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "sdk").mkdir()
    for name in ("requirements.lock", "pyproject.toml", "sdk/pyproject.toml"):
        (root / name).write_text(name)
    identity = ["-c", "user.name=N", "-c", "user.email=n@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "feat: x"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


def test_provenance_names_every_file_and_its_source(checkout: Path, tmp_path: Path) -> None:
    out = tmp_path / "dist"
    out.mkdir()
    (out / "a.whl").write_bytes(b"wheel")
    (out / "a.tgz").write_bytes(b"chart")
    file = write_provenance(checkout, out, "1.2.3")
    assert file.name == "pharia-kernel-1.2.3.intoto.json"
    statement = json.loads(file.read_text())
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": "a.tgz", "digest": {"sha256": hashlib.sha256(b"chart").hexdigest()}},
        {"name": "a.whl", "digest": {"sha256": hashlib.sha256(b"wheel").hexdigest()}},
    ]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"version": "1.2.3", "uncommittedChanges": False}
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=checkout, text=True).strip()
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": commit}
    materials = {entry["name"]: entry["digest"] for entry in definition["resolvedDependencies"][1:]}
    assert materials == {
        name: {"sha256": hashlib.sha256(name.encode()).hexdigest()}
        for name in ("requirements.lock", "pyproject.toml", "sdk/pyproject.toml")
    }


def test_changes_that_nobody_committed_are_admitted(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pyproject.toml").write_text("changed")
    out = tmp_path / "dist"
    out.mkdir()
    statement = json.loads(write_provenance(checkout, out, "1").read_text())
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["uncommittedChanges"] is True


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"wheel")
    (tmp_path / "b.tgz").write_bytes(b"chart")
    write_checksums(tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True)
    assert (tmp_path / "SHA256SUMS").read_text().count("\n") == 2
