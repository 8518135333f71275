"""``pharia-kernel skill``: the author's commands, where the SDK is installed beside the kernel."""

from __future__ import annotations

import importlib.util

import typer

_EVERYTHING = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],  # the SDK's commands have help of their own
}


def skill(context: typer.Context) -> None:
    """Start, build, publish and deploy skills: the commands of pharia-sdk."""
    if importlib.util.find_spec("pharia_kernel_sdk") is None:
        typer.echo(
            "Error: skills are made with the SDK, which is not installed here. Install "
            "pharia-kernel-sdk in the environment of the kernel, or use its command pharia-sdk.",
            err=True,
        )
        raise typer.Exit(1)
    # Imported here because it takes a while, and other commands don't need it.
    from pharia_kernel_sdk.cli.main import app

    app(args=context.args, prog_name="pharia-kernel skill")


def register(app: typer.Typer) -> None:
    app.command(name="skill", context_settings=_EVERYTHING)(skill)
