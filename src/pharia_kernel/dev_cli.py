"""``pharia-kernel dev``: serve skills from their Python source while they are being written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pharia_kernel import config
from pharia_kernel.config.authorization import is_loopback
from pharia_kernel.config.values import Address, parse_address
from pharia_kernel.skills.paths import check_namespace

if TYPE_CHECKING:  # the kernel is slow to import, and other commands don't need it
    from pharia_kernel.config.settings import Settings


def dev(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Files with one skill each, such as greet.py.", metavar="SKILL.PY..."),
    ],
    address: Annotated[
        str, typer.Option(help="Where to listen; only addresses of this machine itself.")
    ] = "127.0.0.1:8081",
    namespace: Annotated[str, typer.Option(help="The namespace of the skills.")] = "dev",
    python: Annotated[
        Path | None,
        typer.Option(
            help="The Python that has the SDK and what the skills import; default: that of the "
            "active virtual environment, else the kernel's own.",
            show_default=False,
        ),
    ] = None,
    debug: Annotated[
        int | None,
        typer.Option(
            help="Let a debugger attach at this port (needs debugpy).",
            metavar="PORT",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve skills from their source, without building components, and reload them when they are
    saved.

    They run without a sandbox, so only this machine can reach them.
    """
    listen = _loopback(address)
    named = _named(sources)
    settings = _settings(namespace)
    interpreter = python or _environment_python()
    if not interpreter.exists():
        _fail(f"there is no Python at {interpreter}")

    import uvloop

    from pharia_kernel.dev.engine import Launch
    from pharia_kernel.dev.serving import dev_settings, serve
    from pharia_kernel.dev.session import Session
    from pharia_kernel.dev.terminal import Terminal
    from pharia_kernel.wiring import CannotStart

    terminal = Terminal()
    terminal.show_logs(settings.log_filter)
    try:
        with Session(named, namespace, terminal) as session:
            launch = Launch(
                python=str(interpreter),
                folder=session.shared,
                terminal=_has_terminal(),
                debug_port=debug,
            )
            effective = dev_settings(settings, session, namespace, listen)
            uvloop.run(serve(effective, session, namespace, launch))
    except (OSError, CannotStart) as error:
        _fail(getattr(error, "strerror", None) or str(error), 1)


def _loopback(text: str) -> Address:
    try:
        address = parse_address(text)
    except ValueError:
        _fail(f"--address: expected HOST:PORT, such as 127.0.0.1:8081, not `{text}`")
    if not is_loopback(address.host):
        _fail(
            f"--address: `{address.host}` can be reached from other machines, but sources run "
            "without a sandbox. Use 127.0.0.1, ::1 or localhost, or build a component."
        )
    return address


def _named(sources: list[Path]) -> dict[str, Path]:
    """Skills by name, which is the file's."""
    named: dict[str, Path] = {}
    for source in sources:
        if source.suffix != ".py":
            _fail(f"{source} is no Python file")
        if not source.is_file():
            _fail(f"there is no file {source}")
        if not source.stem.isidentifier():
            _fail(f"{source}: a module's name consists of letters, digits and `_`")
        if source.stem in sys.stdlib_module_names:
            _fail(f"{source}: Python itself has a module `{source.stem}`; use another name")
        if source.stem in named:
            _fail(f"{named[source.stem]} and {source} have the same name")
        named[source.stem] = source.resolve()
    return named


def _settings(namespace: str) -> Settings:
    from pharia_kernel.errors import InvalidNamespace

    try:
        check_namespace(namespace)
        return config.load()
    except InvalidNamespace as error:
        _fail(f"--namespace: {error.detail}")
    except config.ConfigError as error:
        _fail(str(error))


def _environment_python() -> Path:
    folder = os.environ.get("VIRTUAL_ENV")
    return Path(folder, "bin", "python") if folder else Path(sys.executable)


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _fail(reason: str, status: int = 2) -> NoReturn:
    typer.echo(f"error: {reason}", err=True)
    raise typer.Exit(status)
