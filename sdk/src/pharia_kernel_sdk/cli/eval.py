"""``pharia-sdk eval``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharia_kernel_sdk.cli.options import (
    DEVELOPMENT,
    CallableArgument,
    JsonOption,
    KernelOption,
    TokenOption,
    ToolsOption,
)

if TYPE_CHECKING:
    from pharia_kernel_sdk.running.evaluation import Evaluation

_WIDTH = 160
"""Columns where the output is no terminal."""


def eval_command(
    skill: CallableArgument,
    cases: Annotated[
        Path,
        typer.Argument(help='A case per line: {"input": ..., "expected": ...}, as JSON.'),
    ],
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, max=256, help="Cases at once.")
    ] = 1,
    namespace: ToolsOption = DEVELOPMENT,
    as_json: JsonOption = False,
    kernel: KernelOption = None,
    token: TokenOption = None,
) -> None:
    """Try a skill with many inputs, and compare what comes out with what is expected."""
    from pharia_kernel_sdk.cli.calling import Surroundings, failures, opened
    from pharia_kernel_sdk.cli.publishing import steps
    from pharia_kernel_sdk.running.cases import read_cases
    from pharia_kernel_sdk.running.evaluation import evaluate

    with failures():
        wanted = read_cases(cases)
        where = Surroundings.read(kernel, token, namespace)
        with opened(skill, where) as runnable, steps() as progress:
            doing = f"Running {len(wanted)} cases"
            progress(doing)
            evaluation = evaluate(
                runnable, wanted, concurrency, lambda done: progress(doing, f"{done} are done")
            )
    if as_json:
        typer.echo(json.dumps(_json(skill, evaluation), ensure_ascii=False))
    else:
        _show(evaluation)
    if evaluation.failed:
        raise typer.Exit(1)


def _json(skill: str, evaluation: Evaluation) -> dict[str, object]:
    return {
        "skill": skill,
        "passed": evaluation.passed,
        "failed": evaluation.failed,
        "p50_seconds": evaluation.median,
        "max_seconds": evaluation.slowest,
        "cases": [asdict(each) | {"passed": each.passed} for each in evaluation.outcomes],
    }


def _show(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("CASE", "RESULT", "SECONDS", "PROBLEMS"):
        table.add_column(column, overflow="fold")
    for outcome in evaluation.outcomes:
        result = Text("passed", "green") if outcome.passed else Text("failed", "bold red")
        problems = Text("\n".join(outcome.problems))
        table.add_row(Text(outcome.name), result, f"{outcome.seconds:.3f}", problems)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)
    typer.echo(
        f"{evaluation.passed} passed, {evaluation.failed} failed; "
        f"p50 {evaluation.median:.3f} s, max {evaluation.slowest:.3f} s"
    )
