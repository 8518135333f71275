"""Where the files of a release come from: an in-toto statement with SLSA provenance.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and
https://slsa.dev/spec/v1.0/provenance. It is unsigned: what a signature would vouch for is the
machine that built, and here that is anybody's. The release workflow attests the same files with
the identity of the workflow.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:pharia-kernel:make-release-check:1"
_MATERIALS = ("requirements.lock", "pyproject.toml", "sdk/pyproject.toml")


def write_provenance(root: Path, out: Path, version: str) -> Path:
    """Describe every file that is in ``out``; returns the statement's file, which is there too."""
    files = sorted(path for path in out.iterdir() if path.is_file())
    file = out / f"pharia-kernel-{version}.intoto.json"
    file.write_text(json.dumps(statement(root, files, version), indent=2) + "\n")
    return file


def statement(root: Path, files: list[Path], version: str) -> dict[str, Any]:
    """The statement about ``files``, built from the checkout in ``root``."""
    commit = _git(root, "rev-parse", "HEAD")
    return {
        "_type": STATEMENT,
        "subject": [{"name": path.name, "digest": _digest(path)} for path in files],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "version": version,
                    "uncommittedChanges": bool(_git(root, "status", "--porcelain")),
                },
                "internalParameters": {
                    "python": platform.python_version(),
                    "platform": f"{platform.system()} {platform.machine()}".lower(),
                },
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": commit}},
                    *({"name": name, "digest": _digest(root / name)} for name in _MATERIALS),
                ],
            },
            "runDetails": {
                "builder": {"id": "urn:pharia-kernel:local-build"},
                "metadata": {"finishedOn": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")},
            },
        },
    }


def _digest(path: Path) -> dict[str, str]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
