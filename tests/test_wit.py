from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pharia_kernel import wit
from tools import build_skills

VERSIONS = ("0.2.10", "0.3.11", "0.4.0", "0.5.0")


@pytest.fixture(scope="module")
def componentize_py() -> build_skills.ComponentizePy:
    """A real WIT parser."""
    toolchain = build_skills.prepare("componentize-py")
    assert isinstance(toolchain, build_skills.ComponentizePy)
    return toolchain


@pytest.fixture
def fresh_texts() -> Iterator[None]:
    """Lets a test read the texts from another place."""
    wit._texts.cache_clear()
    yield
    wit._texts.cache_clear()


def types_of(text: str) -> str:
    """The text without comments, gates and the package header."""
    text = re.sub(r"//.*", "", text)
    text = re.sub(r"@(since|unstable)\([^)]*\)", "", text)
    return re.sub(r"\s+", " ", re.sub(r"package [^;]+;", "", text)).strip()


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_versions_are_read_from_the_texts() -> None:
    assert wit.versions() == VERSIONS


def test_line_with_unstable_worlds_is_not_the_newest_stable() -> None:
    assert "@unstable" in wit.text("0.5")
    assert wit.newest_stable() == "0.4.0"


@pytest.mark.parametrize("version", VERSIONS)
def test_line_and_full_version_name_the_same_text(version: str) -> None:
    assert wit.text(wit.line_of(version)) == wit.text(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_text_has_one_package_header(version: str) -> None:
    headers = re.findall(r"^package .*;$", wit.text(version), re.M)
    assert headers == [f"package pharia:skill@{version};"]


@pytest.mark.parametrize("version", ["0.1", "0.3.5", "0", "", "../0.3"])
def test_unknown_version_names_the_known_ones(version: str) -> None:
    with pytest.raises(wit.UnknownWitVersion) as caught:
        wit.text(version)
    assert all(known in str(caught.value) for known in VERSIONS)


@pytest.mark.parametrize(
    ("version", "worlds"),
    [(v, ["skill"] if v == "0.2.10" else ["skill", "message-stream-skill"]) for v in VERSIONS],
)
def test_a_wit_parser_accepts_the_text(
    version: str,
    worlds: list[str],
    componentize_py: build_skills.ComponentizePy,
    tmp_path: Path,
) -> None:
    (tmp_path / "skill.wit").write_text(wit.text(version))
    for world in worlds:
        target = ["-d", "skill.wit", "-w", world, "--features", "alpha"]
        componentize_py.run(["componentize-py", "-q", *target, "bindings", world], tmp_path)
        assert (tmp_path / world / "wit_world" / "exports").is_dir()


def test_worlds_of_0_5_need_the_feature_alpha(
    componentize_py: build_skills.ComponentizePy, tmp_path: Path
) -> None:
    (tmp_path / "skill.wit").write_text(wit.text("0.5"))
    with pytest.raises(build_skills.BuildError):
        componentize_py.run(
            ["componentize-py", "-q", "-d", "skill.wit", "-w", "skill", "bindings", "out"], tmp_path
        )


def test_types_of_0_5_are_those_of_0_4() -> None:
    assert types_of(wit.text("0.5")) == types_of(wit.text("0.4"))


@pytest.mark.parametrize("version", ["0.2.10", "0.3.11"])
def test_no_item_is_newer_than_its_package(version: str) -> None:
    gates = re.findall(r"@since\(version = ([^)]+)\)", wit.text(version))
    assert max(map(number, gates)) == number(version)


@pytest.mark.parametrize("version", ["0.2.10", "0.3.11"])
def test_every_item_says_since_when_it_is_there(version: str) -> None:
    item = r"^ *(world|interface|import|include|export|use|record|variant|enum|type|resource)\b"
    lines = [line for line in wit.text(version).splitlines() if not line.lstrip().startswith("///")]
    items = [n for n, line in enumerate(lines) if re.match(item, line) or ": func(" in line]
    assert items
    assert [lines[n] for n in items if "@since" not in lines[n - 1]] == []


def test_texts_in_an_installed_package_win(
    monkeypatch: pytest.MonkeyPatch, fresh_texts: None, tmp_path: Path
) -> None:
    shutil.copytree(wit._CHECKOUT / "skill@0.3", tmp_path / "wit" / "skill@0.3")
    monkeypatch.setattr(wit, "_PACKAGED", tmp_path / "wit")
    assert wit.versions() == ("0.3.11",)


def test_files_of_one_line_must_agree_on_the_version(
    monkeypatch: pytest.MonkeyPatch, fresh_texts: None, tmp_path: Path
) -> None:
    folder = tmp_path / "wit" / "skill@0.4"
    shutil.copytree(wit._CHECKOUT / "skill@0.4", folder)
    (folder / "tool.wit").write_text("package pharia:skill@0.4.1;\n\ninterface tool {}\n")
    monkeypatch.setattr(wit, "_PACKAGED", tmp_path / "wit")
    with pytest.raises(ValueError, match=r"tool\.wit"):
        wit.versions()
