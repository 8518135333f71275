"""The page of the commands, from what they say of themselves with ``--help``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from pharia_kernel_sdk.cli.main import app as sdk
from typer.main import get_command

from pharia_kernel.cli import app as kernel
from tools.reference import markdown as md

_AUTHORS = "pharia-sdk"
_INTRODUCTION = f"""
`pharia-kernel` is for those who run a kernel, and for `dev`. `{_AUTHORS}` is for those who write
skills; where both are installed, `pharia-kernel skill` is the same command. All of them tell what
is here with `--help`.
"""


def page() -> str:
    """``cli.md``."""
    return md.page(
        md.heading(1, "Commands"),
        md.line(_INTRODUCTION),
        *_program(sdk, _AUTHORS),
        *_program(kernel, "pharia-kernel"),
    )


def _program(app: typer.Typer, name: str) -> Iterator[str]:
    command = get_command(app)
    commands = list(_commands(command, name))
    yield md.heading(2, f"`{name}`")
    yield _described(command, name)
    yield md.items(f"{md.link(f'`{path}`')}: {_summary(each)}" for each, path in commands)
    for each, path in commands:
        yield md.joined(md.heading(3, f"`{path}`"), _described(each, path))


def _commands(command: Any, path: str) -> Iterator[tuple[Any, str]]:
    """All commands below one, and what is typed for them."""
    for name, each in getattr(command, "commands", {}).items():
        if not getattr(each, "commands", None):
            yield each, f"{path} {name}"
        yield from _commands(each, f"{path} {name}")


def _summary(command: Any) -> str:
    return md.line(_help(command).partition("\n\n")[0]).partition(". ")[0].removesuffix(".") + "."


def _help(command: Any) -> str:
    return md.prose(command.help or "")


def _described(command: Any, path: str) -> str:
    context = typer.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parameters = [
        (parameter.param_type_name, parameter.get_help_record(context))
        for parameter in command.params
    ]
    records = [(f"`{record[0]}`", record[1]) for _, record in parameters if record]
    return md.joined(
        _help(command), md.code(usage, "text"), md.table(("Parameter", "Meaning"), records)
    )
