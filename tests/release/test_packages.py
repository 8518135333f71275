"""The distributions of a release: what they have in common, and what is compared."""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pharia_kernel_sdk.build import archives

from tools import locked
from tools.local_kernel import Failure
from tools.release_check import KERNEL
from tools.release_packages import ROOT, Package, build, differences, locked_for
from tools.release_sdk import SDK

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "small"
version = "1.2.3"
[tool.hatch.build.targets.wheel]
packages = ["small"]
artifacts = ["small/made/*"]
[tool.hatch.build.targets.sdist]
exclude = ["small/made", "small/forgotten.py"]
"""


def wheel(file: Path, **contents: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("__", "/"), content)
    return file


def test_wheels_are_compared_by_content(tmp_path: Path) -> None:
    one = wheel(tmp_path / "one", x=b"same", y=b"1")
    assert differences(one, wheel(tmp_path / "two", x=b"same", y=b"1")) == []
    assert differences(one, wheel(tmp_path / "three", x=b"same", y=b"2", z=b"")) == ["y", "z"]


def test_what_a_release_adds_is_not_compared(tmp_path: Path) -> None:
    tree = wheel(tmp_path / "tree", x=b"1", info__RECORD=b"x")
    added = wheel(tmp_path / "added", x=b"1", info__RECORD=b"x made/a", made__a=b"a")
    assert differences(added, tree, "made/") == []
    assert differences(added, tree) == ["info/RECORD", "made/a"]
    changed = wheel(tmp_path / "changed", x=b"2", info__RECORD=b"x made/a", made__a=b"a")
    assert differences(changed, tree, "made/") == ["x"]


@pytest.fixture
def small(tmp_path: Path) -> Package:
    folder = tmp_path / "small"
    (folder / "small").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "small" / "__init__.py").touch()

    def complete(source: Path) -> None:
        (source / "small" / "made").mkdir()
        (source / "small" / "made" / "image").write_text("an image")

    return Package(folder, kind="library", complete=complete, added="small/made/")


def test_a_wheel_has_what_the_release_made_and_the_sources_have_not(
    small: Package, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    made = build(small, out, tmp_path / "scratch")
    assert sorted(path.name for path in out.iterdir()) == [
        "small-1.2.3-py2.py3-none-any.whl",
        "small-1.2.3.tar.gz",
    ]
    names = zipfile.ZipFile(made).namelist()
    assert "small/made/image" in names
    assert not (small.folder / "small" / "made").exists(), "the working tree stays as it was"


def test_sources_that_lack_something_are_noticed(small: Package, tmp_path: Path) -> None:
    (small.folder / "small" / "forgotten.py").touch()
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Failure, match=r"small: .* another wheel .*: small/forgotten\.py$"):
        build(small, out, tmp_path / "scratch")
    assert list(out.iterdir()) == []


def project(package: Package) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads(package.project_file.read_text())
    return loaded


def test_kernel_and_sdk_have_one_version_and_license() -> None:
    assert SDK.version == KERNEL.version
    first, *rest = project(SDK)["project"]["license-files"]
    assert (SDK.folder / first).read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert all((SDK.folder / name).is_file() for name in rest)


@pytest.mark.parametrize("package", [KERNEL, SDK], ids=lambda package: package.name)
def test_all_that_a_package_needs_is_locked(package: Package) -> None:
    found = {entry.name for entry in locked.parse(locked_for(package))}
    assert set(locked.runtime_roots(package.project_file.read_text())) <= found
    assert "pytest" not in found


def test_the_sdk_installs_the_toolchain_that_its_images_are_made_with() -> None:
    """Another version would not find them, and make its own for half a minute."""
    locked_version = re.search(r"^componentize-py==(\S+)", locked_for(SDK), re.MULTILINE)
    assert locked_version is not None
    required = [r for r in project(SDK)["project"]["dependencies"] if "componentize" in r]
    assert required == [f"componentize-py=={locked_version[1]}"]


def test_images_are_where_the_sdk_looks_for_them() -> None:
    assert (SDK.folder / "src" / SDK.added).resolve() == archives.FOLDER
    targets = project(SDK)["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["artifacts"] == [f"src/{SDK.added}*.tar.xz"]
    assert targets["sdist"]["exclude"] == [f"src/{SDK.added}".rstrip("/")]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert f"/sdk/src/{SDK.added}" in ignored
