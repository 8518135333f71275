"""``pharia-sdk logs``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import typer

from pharia_kernel_sdk.cli.options import (
    KernelOption,
    TokenOption,
)


def logs_command(
    skill: Annotated[
        str | None, typer.Argument(help="Only runs of this skill: NAMESPACE/NAME.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-l", min=1, max=1000, help="At most so many runs.")
    ] = 10,
    following: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new runs, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line.")] = False,
    kernel: KernelOption = None,
    token: TokenOption = None,
) -> None:
    """Show the last runs of a kernel's skills: how they ended, and what they printed."""
    from pharia_kernel_sdk.cli.publishing import open_kernel, read_environment, reporting
    from pharia_kernel_sdk.publishing.runs import follow, last_runs

    with reporting(), suppress(KeyboardInterrupt):
        environment = read_environment()
        with open_kernel(environment, kernel, token) as asked:
            runs = follow(asked, skill, limit) if following else last_runs(asked, skill, limit)
            empty = True
            for run in runs:
                empty = False
                typer.echo(json.dumps(run) if as_json else "\n".join(lines(run)))
            if empty:
                typer.echo("No runs: there were none, or the token may not see them.", err=True)


def lines(run: dict[str, Any]) -> Iterator[str]:
    """A run for people: a line about it, and what was printed."""
    began = dt.datetime.fromtimestamp(run["began"]).astimezone()
    outcome = run["outcome"] or "running"
    took = "" if run["seconds"] is None else f"  {run['seconds']:.2f} s"
    yield f"{began:%Y-%m-%d %H:%M:%S}  {run['skill']}  {outcome}{took}{_tokens(run['tokens'])}"
    for entry in run["logs"]:
        mark = "!" if entry["channel"] == "stderr" else "|"
        for line in str(entry["text"] or "").splitlines():
            yield f"  {mark} {line}"
    if run["dropped_logs"]:
        yield f"  ({run['dropped_logs']} more were not kept)"
    for call in run["tool_calls"]:
        yield f"  tool {call['name']}: {call['error'] or 'ok'}"
    if error := run["error"]:
        yield f"  {error['title']} (to be fixed by: {error['fixable_by'].replace('_', ' ')})"


def _tokens(tokens: dict[str, int]) -> str:
    if not any(tokens.values()):
        return ""
    return f"  {tokens['input']} + {tokens['output']} tokens"
