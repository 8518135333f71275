from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from pharia_kernel import config


class Load(Protocol):
    def __call__(self, toml: str = "", /, dotenv: str = "", **environ: str) -> config.Settings: ...


class Problems(Protocol):
    def __call__(self, toml: str = "", /, dotenv: str = "", **environ: str) -> list[str]: ...


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads from these texts and variables, and from nothing else."""

    def load(toml: str = "", /, dotenv: str = "", **environ: str) -> config.Settings:
        # The `.env` always exists, so that none above the directory is found.
        (tmp_path / "config.toml").write_text(toml)
        (tmp_path / ".env").write_text(dotenv)
        return config.load(tmp_path, {"HOME": "/home/me"} | environ)

    return load


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Problems:
    """What is wrong with these texts, with the directory taken out."""

    def problems(toml: str = "", /, dotenv: str = "", **environ: str) -> list[str]:
        with pytest.raises(config.ConfigError) as caught:
            load(toml, dotenv=dotenv, **environ)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return problems
