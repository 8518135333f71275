"""What is wrong with a configuration, said in the words of the person who wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

HIDDEN = "form:"
"""Parts of a pydantic location that begin so are ours and not keys that somebody wrote."""
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a table",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "a string",
}


def visible(location: Location) -> Location:
    """The location without the parts that pydantic and our own grouping put in."""
    return tuple(
        part
        for part in location
        if isinstance(part, int) or not (part == "[key]" or part.startswith(HIDDEN))
    )


def expectation(error: ErrorDetails) -> str:
    """What should stand where the error is."""
    context = error.get("ctx", {})
    match error["type"]:
        case "expected":
            what = context["what"]
        case "greater_than":
            what = f"more than {context['gt']}"
        case "greater_than_equal":
            what = f"at least {context['ge']}"
        case "literal_error":
            what = context["expected"]
        case kind:
            what = _EXPECTED.get(kind) or error["msg"].removeprefix("Input should be ")
    return f"expected {what}"


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
