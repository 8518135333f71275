"""The command ``pharia-kernel``."""

from __future__ import annotations

import os
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from pharia_kernel import (
    api_key_cli,
    config,
    dev_cli,
    documents_cli,
    health_cli,
    skill_cli,
    status_cli,
)
from pharia_kernel.config.sources import CONFIG_FILE, DOTENV_FILE, find_dotenv, parse_dotenv
from pharia_kernel.telemetry import logs

app = typer.Typer(
    help="Runs AI skills, which are WebAssembly components, behind HTTP.",
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they would print secrets
)

app.add_typer(documents_cli.app, name="documents")
app.command()(api_key_cli.api_key)
app.command()(dev_cli.dev)
app.command()(health_cli.health)
skill_cli.register(app)
app.command()(status_cli.status)

Address = Annotated[
    str | None,
    typer.Option(help="Where to listen, such as 127.0.0.1:8081; overrides KERNEL_ADDRESS."),
]
Engines = Annotated[
    str | None, typer.Option(help="Number of engine processes; overrides ENGINES.", metavar="N")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pharia-kernel {version('pharia-kernel')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Runs AI skills, which are WebAssembly components, behind HTTP. Without a command: serve."""
    if context.invoked_subcommand is None:
        serve()


@app.command()
def serve(address: Address = None, engines: Engines = None) -> None:
    """Start the kernel and serve until it is told to stop."""
    # As it was given: a changed `.env` must not lose against its own older text.
    environ = dict(os.environ)
    settings = _load(address, engines)
    _export_dotenv()
    logs.configure(settings.log_filter, settings.log_format)
    # Slow to import; no other command needs them.
    from pharia_kernel.kernel import serve as run
    from pharia_kernel.reloading import Configuration

    load = partial(config.load, environ=environ, options=_options(address, engines))
    run(settings, Configuration(load, _files()))


@app.command()
def check_config(address: Address = None, engines: Engines = None) -> None:
    """Check the configuration and show what is in effect, without starting anything."""
    settings = _load(address, engines)
    typer.echo(settings.describe(), nl=False)


def _export_dotenv() -> None:
    """Libraries read variables of their own, such as HTTPS_PROXY; those may stand in `.env` too."""
    file = find_dotenv(Path.cwd())
    for name, value in parse_dotenv(file.read_text("utf-8")).items() if file else ():
        os.environ.setdefault(name, value)


def _files() -> dict[str, Path]:
    directory = Path.cwd()
    return {
        CONFIG_FILE: directory / CONFIG_FILE,
        DOTENV_FILE: find_dotenv(directory) or directory / DOTENV_FILE,
    }


def _options(address: str | None, engines: str | None) -> dict[str, tuple[str, str]]:
    options = {}
    if address is not None:
        options["kernel-address"] = ("--address", address)
    if engines is not None:
        options["engines"] = ("--engines", engines)
    return options


def _load(address: str | None, engines: str | None) -> config.Settings:
    try:
        return config.load(options=_options(address, engines))
    except config.ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


def main() -> None:
    """Entry point of the console script."""
    app()
