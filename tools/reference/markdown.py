"""Markdown as GitHub shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import indent

_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")
_LITERAL = re.compile(r"``(?=\S)(.+?)(?<=\S)``", re.S)


def heading(level: int, title: str) -> str:
    return f"{'#' * level} {title}"


def anchor(title: str) -> str:
    """What GitHub calls a heading in links, if no other heading of the page is the same."""
    return _NOT_IN_ANCHORS.sub("", title.lower()).replace(" ", "-")


def link(title: str, page: str = "") -> str:
    """To the heading ``title`` of a page, or of this one."""
    return f"[{title}]({page}#{anchor(title)})"


def code(text: str, language: str = "") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def prose(docstring: str) -> str:
    """A docstring, whose literals are those of reStructuredText."""
    return _LITERAL.sub(r"`\1`", docstring.strip())


def line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def items(entries: Iterable[str]) -> str:
    """A list. Entries may have several paragraphs."""
    return "\n".join(f"* {indent(entry, '  ').lstrip()}" for entry in entries)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without the columns that have nothing in them, or nothing if all are empty."""
    cells = [[line(cell).replace("|", r"\|") for cell in row] for row in rows]
    kept = [i for i, _ in enumerate(header) if any(row[i] for row in cells)]
    if not kept:
        return ""
    lines = [[header[i] for i in kept], ["---"] * len(kept)]
    lines += [[row[i] for i in kept] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def joined(*blocks: str) -> str:
    """Blocks with blank lines between them; empty ones are left out."""
    return "\n\n".join(block.strip("\n") for block in blocks if block)


def page(*blocks: str) -> str:
    return joined("<!-- Written by `make reference`. Change the code instead. -->", *blocks) + "\n"
