"""What ``pharia-kernel dev`` refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharia_kernel.cli import app


@pytest.mark.parametrize(
    "address", ["0.0.0.0:8081", "[::]:8081", "192.168.1.2:80", "example.com:80"]
)
def test_addresses_that_others_can_reach(tmp_path: Path, address: str) -> None:
    source = tmp_path / "greet.py"
    source.touch()
    result = CliRunner().invoke(app, ["dev", str(source), "--address", address])
    assert result.exit_code == 2
    assert "can be reached from other machines" in result.output


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["missing.py"], "there is no file missing.py"),
        (["greet.txt"], "greet.txt is no Python file"),
        (["my-skill.py"], "a module's name consists of letters"),
        (["types.py"], "Python itself has a module `types`"),
        (["greet.py", "sub/greet.py"], "have the same name"),
    ],
)
def test_files_that_are_no_skills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("greet.txt", "my-skill.py", "types.py", "greet.py", "sub/greet.py"):
        (tmp_path / name).touch()
    result = CliRunner().invoke(app, ["dev", *files])
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--address", "8081"], "expected HOST:PORT"),
        (["--namespace", "Not a name"], "--namespace: "),
        (["--python", "/nowhere/python"], "there is no Python at /nowhere/python"),
    ],
)
def test_options(tmp_path: Path, options: list[str], said: str) -> None:
    source = tmp_path / "greet.py"
    source.touch()
    result = CliRunner().invoke(app, ["dev", str(source), *options])
    assert result.exit_code == 2
    assert said in result.output
