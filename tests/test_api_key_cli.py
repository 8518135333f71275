from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pharia_kernel import config
from pharia_kernel.cli import app
from pharia_kernel.shell.auth.keys import ApiKeys


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["api-key", *arguments])


def parts(result: Result) -> tuple[str, str]:
    """The key and the TOML."""
    assert result.exit_code == 0, result.output
    (key,) = re.findall(r"^pk_[A-Za-z0-9_-]{43}$", result.output, re.M)
    return key, result.output[result.output.index("[api-keys.") :]


def test_what_is_printed_can_be_pasted(tmp_path: Path) -> None:
    options = "-p run -p csi -n team-a -n team-b --expires 2027-01-31"
    key, toml = parts(run("ci", *options.split()))
    (tmp_path / "config.toml").write_text(toml)
    (tmp_path / ".env").touch()
    settings = config.load(tmp_path, {"HOME": "/"})
    ci = settings.api_keys["ci"]
    assert (ci.permissions, ci.namespaces) == (["run", "csi"], ["team-a", "team-b"])
    assert ci.expires is not None and ci.expires.year == 2027
    assert ApiKeys({"ci": ci}).identify(key).name == "api-key ci"
    assert key not in toml


def test_keys_are_random() -> None:
    assert parts(run("ci"))[0] != parts(run("ci"))[0]


def test_namespaces_can_be_filled_in_later() -> None:
    table = tomllib.loads(parts(run("ci"))[1])["api-keys"]["ci"]
    assert (table["permissions"], table["namespaces"]) == (["run"], [])


def test_administrators_need_no_namespaces() -> None:
    table = tomllib.loads(parts(run("ops", "-p", "admin"))[1])["api-keys"]["ops"]
    assert set(table) == {"hash", "permissions"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["C I"], "`C I`"),
        (["ci", "-n", "B_"], "namespaces: Invalid namespace `B_`"),
        (["ci", "-p", "admin", "-n", "dev"], "namespaces: must be left out"),
        (["ci", "--expires", "soon"], "expires: expected a date"),
        (["ci", "-p", "fly"], "fly"),
        ([], "NAME"),
    ],
)
def test_mistakes(arguments: list[str], reason: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert reason.lower() in result.output.lower()
    assert "pk_" not in result.output
