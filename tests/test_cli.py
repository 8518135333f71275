from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from pharia_kernel import cli
from pharia_kernel.config import Address, Settings
from pharia_kernel.reloading import Configuration


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, no settings in the environment, and logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").touch()
    before = dict(os.environ)
    for name in before:
        if name.split("__")[0].upper() in {"NAMESPACES", "OPENAI_INFERENCE", "ENGINES"}:
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def reloads() -> list[Configuration]:
    """How the kernel was told to read its configuration again."""
    return []


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, reloads: list[Configuration]) -> list[Settings]:
    """What the kernel was started with."""
    served: list[Settings] = []

    def serve(settings: Settings, reload: Configuration) -> None:
        served.append(settings)
        reloads.append(reload)

    kernel = ModuleType("pharia_kernel.kernel")
    kernel.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pharia_kernel.kernel", kernel)
    return served


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(cli.app, arguments, env=environ)


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"pharia-kernel {version('pharia-kernel')}\n")


def test_no_command_serves(served: list[Settings]) -> None:
    assert run(ENGINES="3").exit_code == 0
    assert [settings.engines for settings in served] == [3]


def test_serve_with_options(served: list[Settings]) -> None:
    result = run("serve", "--address", "127.0.0.1:1", "--engines", "2", ENGINES="3")
    assert result.exit_code == 0
    assert served[0].kernel_address == Address("127.0.0.1", 1)
    assert served[0].engines == 2


def test_serve_puts_dotenv_into_the_environment(served: list[Settings], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENGINES=2\nSOME_PROXY=from-dotenv\nOTHER=from-dotenv")
    os.environ["OTHER"] = "kept"
    assert run("serve").exit_code == 0
    assert (os.environ["SOME_PROXY"], os.environ["OTHER"]) == ("from-dotenv", "kept")
    assert "# .env ENGINES" in served[0].describe()


def test_a_changed_configuration_is_read_with_the_same_options(
    served: list[Settings], reloads: list[Configuration], tmp_path: Path
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("RUN_TIMEOUT=1s\nMAX_RUNS_PER_SKILL=1")
    assert run("serve", "--engines", "2", MAX_RUNS_PER_SKILL="7").exit_code == 0
    dotenv.write_text("RUN_TIMEOUT=2s\nMAX_RUNS_PER_SKILL=2\nENGINES=3")
    os.environ["MAX_RUNS_PER_SKILL"] = "8"  # as a library could
    settings = reloads[0].load()
    assert (settings.engines, settings.run_timeout, settings.max_runs_per_skill) == (2, 2.0, 7)
    assert set(reloads[0].files.values()) == {tmp_path / "config.toml", dotenv}


def test_serve_refuses_a_bad_configuration(served: list[Settings]) -> None:
    result = run("serve", "--engines", "none", KERNEL_ADDRESS="x")
    assert result.exit_code == 2
    assert served == []
    assert "2 problems in the configuration" in result.stderr
    assert '--engines (option): expected a whole number, got "none"' in result.stderr


def test_check_config(served: list[Settings]) -> None:
    result = run(
        "check-config",
        NAMESPACES__DEV__DIRECTORY="skills",
        OPENAI_INFERENCE__URL="http://a",
        OPENAI_INFERENCE__TOKEN="hunter2",
    )
    assert result.exit_code == 0
    assert 'directory = "skills"  # env NAMESPACES__DEV__DIRECTORY' in result.stdout
    assert "hunter2" not in result.output
    assert result.stderr == ""
    assert served == []


def test_check_config_of_a_bad_configuration() -> None:
    result = run("check-config", NAMESPACES__DEV__DIRECTRY="skills")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "did you mean NAMESPACES__DEV__DIRECTORY?" in result.stderr
    assert "Traceback" not in result.stderr


def test_unknown_commands() -> None:
    assert run("serv").exit_code == 2


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("pharia-kernel")
    result = subprocess.run(
        [command, "check-config", "--engines", "7"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "engines = 7  # option --engines" in result.stdout
