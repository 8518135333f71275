from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from tools import locked
from tools.locked import ROOT, NotLocked, needed, parse, runtime_roots

LOCK = """\
# This file was made by a tool.
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via kernel (pyproject.toml)
Multi_Dict==7.2.1 \\
    --hash=sha256:ba
    # via
    #   aiohttp
    #   yarl
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:ca
    # via multi-dict
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cb
    # via multi-dict
pytest==9.2.0 \\
    --hash=sha256:da
    # via kernel (pyproject.toml:dev)
pluggy==1.7.0 \\
    --hash=sha256:ea
    # via pytest
"""


def names(roots: list[str]) -> list[str]:
    return [entry.text.split()[0] for entry in needed(parse(LOCK), roots)]


def test_what_a_package_needs_comes_with_it() -> None:
    assert names(["aiohttp"]) == [
        "aiohttp==3.14.5",
        "Multi_Dict==7.2.1",
        "numpy==2.4.6",
        "numpy==2.5.5",
    ]
    assert names(["PyTest"]) == ["pytest==9.2.0", "pluggy==1.7.0"]


def test_versions_conditions_and_hashes_stay() -> None:
    (entry,) = (entry for entry in parse(LOCK) if "2.4.6" in entry.text)
    assert entry.text == "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:ca\n"


def test_what_is_missing_is_named() -> None:
    with pytest.raises(NotLocked, match="not in the lock: absent; `make lock`"):
        names(["aiohttp", "absent"])


def test_roots() -> None:
    project = """
    [project]
    dependencies = ["aiohttp>=3.13", "Foo.Bar[extra]>=1 ; python_version < '4'"]
    [project.optional-dependencies]
    local = ["xllamacpp>=1"]
    """
    assert runtime_roots(project) == ["aiohttp", "foo-bar"]
    assert runtime_roots(project, ["local"]) == ["aiohttp", "foo-bar", "xllamacpp"]
    with pytest.raises(NotLocked, match="no extra: remote; there are local"):
        runtime_roots(project, ["remote"])


def test_the_real_lock_has_what_the_image_needs_and_no_more() -> None:
    """It runs before anything is installed: without the packages of this environment."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", locked.__file__], capture_output=True, text=True, check=True
    )
    found = {entry.name: entry.text for entry in parse(done.stdout)}
    assert all("--hash=sha256:" in text and "==" in text for text in found.values())
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert set(runtime_roots(pyproject)) <= found.keys()
    project = tomllib.loads(pyproject)
    tools = {"mypy", "pytest", "ruff", "hypothesis", "commitizen", "hatchling"}
    assert not tools & found.keys()
    development = {locked._name(r) for r in project["dependency-groups"]["dev"]}
    assert tools - development == set()
