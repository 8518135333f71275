"""What is wrong with a configuration, said in the words of the person who wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake."""

    key: str
    """As it was written: the variable's name, or the dotted path in the TOML file."""
    source: str
    """``environment``, or the file."""
    message: str
    value: str | None = None
    """What was found; none where there is nothing to show or the value may be a secret."""
    suggestion: str | None = None
    """The key that was probably meant."""

    def __str__(self) -> str:
        value = "" if self.value is None else f", got {self.value}"
        hint = "" if self.suggestion is None else f"; did you mean {self.suggestion}?"
        return f"{self.key} ({self.source}): {self.message}{value}{hint}"


class ConfigError(Exception):
    """The configuration can't be used; ``problems`` has every mistake that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(f"{count} in the configuration:{lines}")
