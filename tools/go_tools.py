"""Builds the command line tools that only exist as Go modules: Helm, and the check of workflows.

    python tools/go_tools.py [helm] [actionlint]

A tool is built once for each pinned version and kept in ``.toolchains/go/``. Go checks what it
downloads against its checksum database. Building Helm takes some minutes. Several processes may ask
at the same time: one builds, the others wait.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".toolchains" / "go"
PACKAGES = {
    "actionlint": ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"),
    "helm": ("helm.sh/helm/v3/cmd/helm", "v3.22.0"),
}
"""Package and version of each tool."""


class ToolUnavailable(Exception):
    """The tool is not built and can't be; the message says why and what to do."""


def tool(name: str, report: Callable[[str], None] = print) -> Path:
    """The executable, built if need be. Raises ``ToolUnavailable``."""
    package, version = PACKAGES[name]
    executable = HOME / f"{name}-{version}"
    if executable.exists():
        return executable
    go = shutil.which("go")
    if go is None:
        raise ToolUnavailable(f"{name} has to be built, which needs Go (https://go.dev/dl/)")
    HOME.mkdir(parents=True, exist_ok=True)
    with _locked(HOME / f"{name}.lock"):
        if not executable.exists():
            report(f"Building {name} {version}; this can take some minutes ...")
            _install(go, f"{package}@{version}", executable)
    return executable


def _install(go: str, package: str, executable: Path) -> None:
    with tempfile.TemporaryDirectory(dir=HOME) as folder:
        environment = os.environ | {"GOBIN": folder, "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}
        done = subprocess.run(
            [go, "install", package], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise ToolUnavailable(f"`go install {package}` failed:\n{done.stderr[-2000:]}")
        (built,) = Path(folder).iterdir()
        built.rename(executable)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build tools that are Go modules.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PACKAGES)}")
    names = parser.parse_args(arguments).names or list(PACKAGES)
    if unknown := sorted(set(names) - PACKAGES.keys()):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PACKAGES)}")
    try:
        for name in names:
            print(tool(name))
    except ToolUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
