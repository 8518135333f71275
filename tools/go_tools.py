"""Builds the command line tools that only exist as Go modules: Helm, and the check of workflows.

    python -m tools.go_tools [helm] [actionlint]

A tool is built once for each pinned version and kept in ``.toolchains/go/``. Go checks what it
downloads against its checksum database. Building Helm takes some minutes. Several processes may ask
at the same time: one builds, the others wait.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.tool_cache import TOOLCHAINS, ToolUnavailable, built_once

HOME = TOOLCHAINS / "go"
PACKAGES = {
    "actionlint": ("github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12"),
    "helm": ("helm.sh/helm/v3/cmd/helm", "v3.22.0"),
}
"""Package and version of each tool."""


def tool(name: str, report: Callable[[str], None] = print) -> Path:
    """The executable, built if need be. Raises ``ToolUnavailable``."""
    package, version = PACKAGES[name]

    def build(folder: Path) -> Path:
        go = shutil.which("go")
        if go is None:
            raise ToolUnavailable(f"{name} has to be built, which needs Go (https://go.dev/dl/)")
        report(f"Building {name} {version}; this can take some minutes ...")
        _install(go, f"{package}@{version}", folder)
        return folder / name

    return built_once(HOME / f"{name}-{version}", build)


def _install(go: str, package: str, folder: Path) -> None:
    environment = os.environ | {"GOBIN": str(folder), "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}
    done = subprocess.run([go, "install", package], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ToolUnavailable(f"`go install {package}` failed:\n{done.stderr[-2000:]}")


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
