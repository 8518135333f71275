"""The distributions of a release: made, compared with their sources, and installed.

Each is built from its source distribution, which everybody can have, and has to hold what the
working tree makes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools import locked
from tools.local_kernel import Failure, say

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ("x86_64-manylinux_2_36", "aarch64-manylinux_2_36")
"""Those of the container image; the number is the C library of its base."""


@dataclass(frozen=True)
class Package:
    """A folder with a ``pyproject.toml``."""

    folder: Path
    kind: str
    """Of component, as bills of materials (CycloneDX) tell it."""
    complete: Callable[[Path], None] = lambda _: None
    """Puts into a copy of the folder what is in the wheel, but not in the sources."""
    added: str = ""
    """Where in the wheel that is: the beginning of the paths."""

    @property
    def project_file(self) -> Path:
        return self.folder / "pyproject.toml"

    @property
    def name(self) -> str:
        return str(self._project["name"])

    @property
    def version(self) -> str:
        return str(self._project["version"])

    @property
    def _project(self) -> dict[str, object]:
        project: dict[str, object] = tomllib.loads(self.project_file.read_text())["project"]
        return project


def build(package: Package, out: Path, scratch: Path) -> Path:
    """The wheel in ``out``, beside the source distribution that it is made from.

    Raises ``Failure`` if the working tree makes another one.
    """
    say(f"building wheel and source distribution of {package.name} ...")
    _build(package.folder, scratch / "source", "sdist")
    _build(package.folder, scratch / "again", "wheel")
    (source,) = (scratch / "source").iterdir()
    with tarfile.open(source) as archive:
        archive.extractall(scratch / "unpacked", filter="data")
    (unpacked,) = (scratch / "unpacked").iterdir()
    package.complete(unpacked)
    _build(unpacked, scratch / "wheel", "wheel")
    (wheel,) = (scratch / "wheel").iterdir()
    (again,) = (scratch / "again").iterdir()
    if different := differences(wheel, again, package.added):
        raise Failure(
            f"{package.name}: the source distribution makes another wheel than the working tree: "
            + ", ".join(different)
        )
    shutil.copy(source, out)
    return Path(shutil.copy(wheel, out))


def _build(source: Path, out: Path, target: str) -> None:
    # The backend itself, in the version that is locked, instead of one that is downloaded now.
    build = (sys.executable, "-m", "hatchling", "build", "--directory", str(out))
    run(*build, "--target", target, cwd=source, SOURCE_DATE_EPOCH=_commit_time())


def _commit_time() -> str:
    return run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip() or "0"


def differences(wheel: Path, other: Path, added: str = "") -> list[str]:
    """Files that only one of them has, or that are different; without those in ``added``."""
    first, second = contents(wheel), contents(other)
    names = {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
    if not added:
        return sorted(names)
    # The record lists all files with their digests, the added ones as well.
    return sorted(n for n in names if not n.startswith(added) and not n.endswith("/RECORD"))


def contents(wheel: Path) -> dict[str, str]:
    """Digest of each file in it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def install(package: Package, wheel: Path, scratch: Path) -> Path:
    """The interpreter of a new environment with the wheel and what is locked for it."""
    say(f"installing {package.name} into an empty environment ...")
    uv = shutil.which("uv")
    if uv is None:
        raise Failure("uv is missing; `make release-check` installs it")
    lock = scratch / "runtime.lock"
    lock.write_text(locked_for(package))
    python = scratch / "environment" / "bin" / "python"
    run(uv, "venv", "--quiet", "--python", sys.executable, str(python.parents[1]))
    add = (uv, "pip", "install", "--quiet", "--python", str(python))
    locked_only = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(lock))
    for platform in PLATFORMS:  # is there a wheel of everything?
        run(*add, *locked_only, "--dry-run", "--python-platform", platform)
    run(*add, *locked_only)
    run(*add, "--no-deps", "--no-index", str(wheel))
    run(uv, "pip", "check", "--quiet", "--python", str(python))
    return python


def locked_for(package: Package) -> str:
    """The part of the lock with what the package needs. Raises ``Failure`` if that is not there."""
    entries = locked.parse((ROOT / "requirements.lock").read_text())
    roots = locked.runtime_roots(package.project_file.read_text())
    try:
        return "".join(entry.text for entry in locked.needed(entries, roots))
    except locked.NotLocked as error:
        raise Failure(str(error)) from None


def write_bill_of_materials(package: Package, python: Path, out: Path) -> None:
    """Of the environment, so that it has what is really used, with licenses and dependencies."""
    say(f"writing the bill of materials of {package.name} ...")
    file = out / f"{package.name}-{package.version}.cdx.json"
    run(
        sys.executable, "-m", "cyclonedx_py", "environment", str(python),
        "--pyproject", str(package.project_file), "--mc-type", package.kind,
        "--output-reproducible", "--output-format", "JSON", "--output-file", str(file),
    )  # fmt: skip


def run(*command: str, cwd: Path | None = None, **environ: str) -> str:
    """What the command said. Raises ``Failure`` with what it complained about."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environ, capture_output=True, text=True
    )
    if done.returncode:
        complaint = re.sub(r"//[^/@\s]*@", "//***@", done.stderr or done.stdout)
        raise Failure(f"`{Path(command[0]).name} {command[1]}` failed:\n{complaint[-3000:]}")
    return done.stdout
