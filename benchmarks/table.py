"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, structs
from rich.console import Console
from rich.table import Table


class Row(Struct, frozen=True, kw_only=True):
    """One line of the table."""

    key: str
    """Letter of the measurement, such as ``b``."""
    what: str
    result: str
    ratio: str = ""
    """The result in relation to another one."""
    aim: str = ""
    met: bool | None = None
    """Whether the result reaches the aim; none if there is no aim."""
    values: dict[str, float] = {}
    """The bare numbers, for programs: milliseconds, runs per second, MB or ratios."""


def milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 100 else f"{value:.0f} ms"


def show(rows: Sequence[Row], about: str, *, width: int | None = None) -> None:
    """Print the table; ``about`` says what it was measured on."""
    console = Console(width=width)
    table = Table(title=about, title_justify="left", title_style="", show_lines=False)
    table.add_column("")
    table.add_column("measured", ratio=1)
    table.add_column("result", overflow="fold")
    table.add_column("ratio", overflow="fold")
    table.add_column("aim")
    table.add_column("met")
    last = ""
    for row in rows:
        if last and row.key != last:
            table.add_section()
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met]
        table.add_row(
            row.key if row.key != last else "", row.what, row.result, row.ratio, row.aim, met
        )
        last = row.key
    console.print(table)


def write_json(file: Path, rows: Iterable[Row], about: dict[str, Any]) -> None:
    document = {"about": about, "rows": [structs.asdict(row) for row in rows]}
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
