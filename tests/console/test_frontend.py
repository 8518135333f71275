"""The front end: its own tests, and that what is shipped was built from the sources."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
from pathlib import Path

from pharia_kernel.console import assets
from tests.console.conftest import SOURCES

STATIC = Path(assets.__file__).parent / "static"
FILES = (
    "index.html",
    "package-lock.json",
    "package.json",
    "sources.js",
    "tsconfig.json",
    "vite.config.ts",
)
MAX_SIZE = 100_000


def test_what_is_shipped_was_built_from_these_sources() -> None:
    """If not: `make console`."""
    sources = (file for file in (SOURCES / "src").rglob("*") if file.is_file())
    names = sorted([*FILES, *(file.relative_to(SOURCES).as_posix() for file in sources)])
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0".encode() + (SOURCES / name).read_bytes() + b"\0")
    assert (STATIC / "sources.sha256").read_text().strip() == digest.hexdigest()


def test_the_whole_of_it_is_small() -> None:
    files = [file for file in STATIC.rglob("*") if file.is_file()]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < MAX_SIZE


_NAMES = re.compile(r"http://www\.w3\.org/|https?://json-schema\.org/|https://github\.com/cfworker")
"""Of namespaces and schemas, and in a message of a library: nobody opens them."""


def test_nothing_is_loaded_from_elsewhere() -> None:
    served = [STATIC / "index.html", *(STATIC / "console").iterdir()]
    assert len(served) == 4
    for file in served:
        urls = re.findall(r"https?://[^\s\"'`)]+", file.read_text())
        assert not [url for url in urls if not _NAMES.match(url)]


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (SOURCES / "package-lock.json").read_text()


def test_a_build_gives_the_same_files(node_modules: Path, tmp_path: Path) -> None:
    npx(
        node_modules,
        "vite",
        "build",
        "--outDir",
        str(tmp_path),
        "--emptyOutDir",
        "--logLevel",
        "warn",
    )
    assert _contents(tmp_path) == _contents(STATIC)


def test_types(node_modules: Path) -> None:
    npx(node_modules, "tsc", "--noEmit")


def test_units(node_modules: Path) -> None:
    npx(node_modules, "vitest", "run")


def npx(node_modules: Path, command: str, *arguments: str) -> None:
    done = subprocess.run(
        [node_modules / ".bin" / command, *arguments],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
