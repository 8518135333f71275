"""What ``run`` and ``eval`` have in common: which skill is meant, and how it is reached. Slow to
import, so commands do it when they run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import typer

from pharia_kernel_sdk.build import probe
from pharia_kernel_sdk.build.project import find
from pharia_kernel_sdk.cli.publishing import (
    kernel_access,
    read_environment,
    reporting,
    steps,
)
from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.kernel import kernel_url
from pharia_kernel_sdk.publishing.surface import surface_of
from pharia_kernel_sdk.running.cases import CasesError
from pharia_kernel_sdk.running.component import ComponentSkill, SkillComponent
from pharia_kernel_sdk.running.deployed import DeployedSkill
from pharia_kernel_sdk.running.errors import SkillError
from pharia_kernel_sdk.running.skill import Listener, Runnable, nobody
from pharia_kernel_sdk.running.source import SourceSkill
from pharia_kernel_sdk.running.telling_csi import TellingCsi
from pharia_kernel_sdk.transport import CsiError, HttpTransport

_UNAUTHORIZED = 401


@dataclass(frozen=True)
class Surroundings:
    """Of a skill that is called."""

    address: str
    """Of the kernel that has the skill, or that it asks."""
    token: str | None
    namespace: str
    """Whose tools a skill in this process calls."""

    @classmethod
    def read(cls, kernel: str | None, token: str | None, namespace: str) -> Surroundings:
        """From options and the environment. Raises ``PublishError``."""
        return cls(*kernel_access(read_environment(), kernel, token), namespace)


@contextmanager
def failures() -> Iterator[None]:
    """Ends the command with status 1 and what was wrong, as it is."""
    with reporting():
        try:
            yield
        except (SkillError, CasesError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None
        except CsiError as error:
            typer.echo(f"Error: {error}{_advice(error)}", err=True)
            raise typer.Exit(1) from None


def _advice(error: CsiError) -> str:
    if error.status == _UNAUTHORIZED:
        return " PHARIA_AI_TOKEN or --token holds the token."
    if error.status is None and error.code is None:
        return " Start one, or name another with --kernel or PHARIA_KERNEL_ADDRESS."
    return ""


@contextmanager
def opened(skill: str, where: Surroundings, listener: Listener = nobody) -> Iterator[Runnable]:
    """The skill that ``skill`` means: a source (``greet.py``, ``my.greet``), a component
    (``greet.wasm``), or one of a kernel (``namespace/name``).

    ``listener`` is told of the tools that a skill in this process calls. What such a skill prints
    goes to standard error. Raises ``BuildError``, ``PublishError`` and ``SkillError``.
    """
    if is_deployed(skill):
        with DeployedSkill(skill, where.address, where.token) as deployed:
            yield deployed
        return
    kernel_url(where.address)
    transport = HttpTransport(where.address, where.token)
    with TellingCsi(where.namespace, transport, listener) as csi, redirect_stdout(sys.stderr):
        if not skill.endswith(".wasm"):
            yield _source(skill, csi)
            return
        component = _component(Path(skill), csi)
        with _interrupted_at_once():
            yield component


@contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """Ctrl-C ends the process. Python's own way is to raise an exception as soon as a call returns,
    and a component in an endless loop never does."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # whoever embeds the command decides, or the shell does
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_deployed(skill: str) -> bool:
    """Files have a suffix, modules have dots, and ``./`` begins what is here."""
    return skill.count("/") == 1 and not skill.endswith((".py", ".wasm")) and skill[0] != "."


def _component(file: Path, csi: Csi) -> Runnable:
    if not file.is_file():
        raise PublishError(f"There is no file {file}.")
    surface_of(file.read_bytes(), str(file))  # which refuses what is no skill
    with steps() as progress:
        progress(f"Loading {file.name}")
        return ComponentSkill(SkillComponent(file), csi)


def _source(skill: str, csi: Csi) -> Runnable:
    project = find(skill)
    return SourceSkill(probe.load(str(project.root), project.module), csi)
