"""What authors have: both SDKs, and a skill that greets, written for each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tools import build_skills
from tools.examples import EXAMPLES

PUBLISHED, OWN, OWN_WITH_PYDANTIC = "pharia-skill", "pharia-sdk", "pharia-sdk, pydantic"
SDKS = (PUBLISHED, OWN, OWN_WITH_PYDANTIC)
SDK_CACHE = build_skills.CACHE / "sdk"
"""Images of our SDK, shared with its tests."""

_WITH_PYDANTIC = (build_skills.TEST_SKILLS / "greet" / "greet.py").read_text()
_WITH_DATACLASS = (EXAMPLES / "skills" / "greet.py").read_text()
SOURCES = {
    PUBLISHED: _WITH_PYDANTIC,
    OWN: _WITH_DATACLASS,
    OWN_WITH_PYDANTIC: _WITH_PYDANTIC.replace("pharia_skill", "pharia_kernel_sdk"),
}
"""The same skill: with pydantic models, and with what an author of our SDK would write."""


class StepFailed(Exception):
    """A command ended with an error; the message has its output."""


class Author:
    """A folder with ``greet.py``, and the SDK that it is written for."""

    def __init__(self, sdk: str, folder: Path, *, cache: Path = SDK_CACHE) -> None:
        self.sdk = sdk
        self.folder = folder
        self._cache = cache
        self.write("Hello")

    @property
    def source(self) -> Path:
        return self.folder / "greet.py"

    @property
    def component(self) -> Path:
        return self.folder / "greet.wasm"

    def write(self, greeting: str) -> None:
        """Have the skill greet like this; in one step, as editors save."""
        save(self.source, SOURCES[self.sdk].replace("Hello", greeting))

    def build(self) -> float:
        """Seconds of the command that makes the component."""
        if self.sdk != PUBLISHED:
            return timed([tool("pharia-sdk"), "build", "greet.py"], self.folder, self._environment)
        published = _published()
        command = [str(published / "bin" / "pharia-skill"), "build", "greet"]
        command += ["--no-interactive", "--skill-type", "skill"]
        return timed(command, self.folder, published_environment(published))

    def lend_packages(self) -> None:
        """Give the published SDK the packages that it would install into this folder."""
        if self.sdk == PUBLISHED:
            (self.folder / "wasi_deps").symlink_to(_published() / "wasi_deps")

    @property
    def _environment(self) -> dict[str, str]:
        return {"PHARIA_SDK_CACHE": str(self._cache)}


@contextmanager
def author(sdk: str, *, fresh: bool = False) -> Iterator[Author]:
    """One whose machine has been used before, or, ``fresh``, one without any caches."""
    with TemporaryDirectory(prefix="author-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "work").mkdir()
        found = Author(sdk, folder / "work", cache=folder / "cache" if fresh else SDK_CACHE)
        if not fresh:
            found.lend_packages()
        yield found


def _published() -> Path:
    """The environment that has the published SDK."""
    toolchain = build_skills.prepare(PUBLISHED, report=lambda line: print(f"  {line}", flush=True))
    assert isinstance(toolchain, build_skills.Pinned)
    return toolchain.environment


def published_environment(environment: Path) -> dict[str, str]:
    """What a shell has after this virtual environment was activated."""
    path = f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {"VIRTUAL_ENV": str(environment), "PATH": path}


def tool(name: str) -> str:
    """A command of the environment that the benchmarks run in."""
    return str(Path(sys.executable).with_name(name))


def save(file: Path, text: str) -> None:
    unfinished = file.with_name(f".{file.name}.saving")
    unfinished.write_text(text)
    unfinished.replace(file)


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an author's shell."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | dict(environment)


def timed(command: list[str], folder: Path, environment: Mapping[str, str]) -> float:
    """Seconds that the command took. Raises ``StepFailed``."""
    began = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=surroundings(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        program = " ".join([Path(command[0]).name, *command[1:3]])
        raise StepFailed(f"`{program}` failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return seconds
