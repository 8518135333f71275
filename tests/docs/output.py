"""Compares what a page shows with what was printed."""

from __future__ import annotations

import difflib
import re

ANYTHING = "..."
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def clean(text: str) -> str:
    """As a terminal leaves it: no colours, and of lines that were written over the last state."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rsplit("\r", 1)[-1].rstrip() for line in lines)


def matches(expected: list[str], printed: str) -> bool:
    """Whether the output is as shown, apart from empty lines at its ends."""
    return re.fullmatch(_pattern(expected), _framed(printed)) is not None


def begins_with(expected: list[str], printed: str) -> bool:
    """The same for output that goes on."""
    return re.match(_pattern(expected), _framed(printed)) is not None


def begins_otherwise(expected: list[str], printed: str) -> bool:
    """Whether the first line is another one already, so that waiting is of no use."""
    first, end, _ = printed.lstrip("\n").partition("\n")
    return bool(expected and end) and not begins_with(expected[:1], first)


def end_of(expected: list[str], printed: str) -> int | None:
    """Where the lines end in the output, wherever they are; ``None`` if they are not in it."""
    found = re.search("(?:^|(?<=\n))" + _pattern(expected), printed)
    return found.end() if found else None


def difference(expected: list[str], printed: str) -> str:
    shown = [f"  {line}" for line in clean(printed).strip("\n").splitlines()]
    wanted = [f"  {line}" for line in expected]
    lines = difflib.ndiff(wanted, shown)
    return "\n".join(line for line in lines if not line.startswith("?"))


def _framed(printed: str) -> str:
    text = printed.strip("\n")
    return f"{text}\n" if text else ""


def _pattern(expected: list[str]) -> str:
    """Each line with its end; several empty lines at the end count as none."""
    lines = [line.rstrip() for line in expected]
    while lines and not lines[-1]:
        lines.pop()
    return "".join(map(_line_pattern, lines))


def _line_pattern(line: str) -> str:
    if line.strip() == ANYTHING:
        return r"(?:[^\n]*\n)*?"
    return r"[^\n]*?".join(map(re.escape, line.split(ANYTHING))) + "\n"
