"""What a board consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""
    """With labels in double braces; empty shows all labels."""


@dataclass(frozen=True)
class Panel:
    title: str
    queries: tuple[Query, ...]
    unit: str
    """As Grafana calls it: ``short``, ``s``, ``ops``, ``percentunit``..."""
    kind: Kind = "timeseries"
    description: str = ""
    width: int = 8
    stacked: bool = False
    bad_from: float | None = None
    """For ``stat``: red from this value on."""
    bad_below: float | None = None
    """For ``stat``: red below this value."""


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """Values of a label, of which any number can be chosen."""

    name: str
    title: str
    series: str
    """Where the values come from: a selector."""

    @property
    def query(self) -> str:
        return f"label_values({self.series}, {self.name})"


@dataclass(frozen=True)
class Board:
    file: str
    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...] = field(repr=False)
