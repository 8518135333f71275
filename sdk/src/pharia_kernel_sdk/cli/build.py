"""``pharia-sdk build``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pharia_kernel_sdk.build.component import Built, Progress, build
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.project import find


def build_command(
    skill: Annotated[
        str, typer.Argument(help="File or module of the skill: `greet.py`, `my.greet`.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The component to write; by default ./NAME.wasm."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show whole tracebacks and the modules inside.")
    ] = False,
) -> None:
    """Make a WebAssembly component of a skill."""
    try:
        project = find(skill)
        target = output or Path.cwd() / f"{project.name}.wasm"
        if target.is_dir():
            target /= f"{project.name}.wasm"
        with _progress() as progress:
            built = build(project, target, progress)
    except BuildError as error:
        if verbose and error.details:
            typer.echo(error.details, err=True)
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    _report(built, verbose)


def _report(built: Built, verbose: bool) -> None:
    for warning in built.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    if verbose:
        typer.echo(f"Modules: {', '.join(built.modules)}")
    typer.echo(
        f"{_shown(built.file)}: {built.kind} skill `{built.metadata['name']}`, "
        f"{built.size / 1e6:.1f} MB, WIT {built.wit_version}, built in {built.seconds:.1f} s"
    )


def _shown(file: Path) -> str:
    relative = os.path.relpath(file)
    return str(file) if relative.startswith("..") else relative


@contextmanager
def _progress() -> Iterator[Progress]:
    """A line that changes on a terminal; elsewhere a line for each step."""
    if not sys.stderr.isatty():
        yield lambda step: typer.echo(f"{step}...", err=True)
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("") as status:
        yield lambda step: status.update(f"{step}...")
