"""What a page of the documentation asks its reader to do. Raises ``PageError`` for what is neither
executed nor said not to be."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ILLUSTRATIONS = frozenset({"text", "json", "mermaid"})
_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_EXCLUDED = re.compile(r"not executed:\s*\S")
_SECTION_EXCLUDED = re.compile(r"this section is not executed:\s*\S")
_GIVEN = re.compile(r"setup:\s*([a-z, ]+)")
_SCRIPT = re.compile(r"setup\s*\n(.*)", re.DOTALL)


class PageError(Exception):
    """A page breaks the convention, or does not tell the truth. The message begins with where."""


@dataclass(frozen=True)
class Place:
    page: Path
    line: int
    section: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class WriteFile:
    """A block with a title."""

    place: Place
    name: str
    content: str


@dataclass(frozen=True)
class EditFile:
    """A ``diff`` with a title."""

    place: Place
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Command:
    place: Place
    text: str
    """Empty if there is only more output to wait for."""
    output: list[str]
    status: int = 0


@dataclass(frozen=True)
class Commands:
    """A ``console`` block."""

    place: Place
    terminal: str | None
    """Title of a terminal besides the first one."""
    commands: list[Command]


@dataclass(frozen=True)
class Given:
    """``<!-- setup: ... -->``"""

    place: Place
    names: list[str]


@dataclass(frozen=True)
class Script:
    """``<!-- setup``, lines of bash, ``-->``"""

    place: Place
    text: str


@dataclass(frozen=True)
class Excluded:
    """A block that the page says is not executed."""

    place: Place


Step = WriteFile | EditFile | Commands | Given | Script | Excluded


def parse(page: Path) -> list[Step]:
    """The steps of a Markdown file, in order."""
    return list(_steps(page, MarkdownIt("commonmark").parse(page.read_text("utf-8"))))


def _steps(page: Path, tokens: list[Token]) -> Iterator[Step]:
    section, excluded, section_excluded = "", False, False
    for number, token in enumerate(tokens):
        place = Place(page, token.map[0] + 1 if token.map else 0, section)
        if token.type == "heading_open":
            section, section_excluded = tokens[number + 1].content, False
        elif token.type == "code_block":
            raise PageError(f"{place}: indented code; put it between ``` lines, with a language")
        elif token.type == "html_block":
            for comment in _COMMENT.findall(token.content):
                excluded = excluded or bool(_EXCLUDED.match(comment))
                section_excluded = section_excluded or bool(_SECTION_EXCLUDED.match(comment))
                yield from _setup(place, comment)
        elif token.type == "fence":
            if excluded or section_excluded:
                yield Excluded(place)
            else:
                yield from _fence(place, token)
            excluded = False
        elif excluded and token.type.endswith("_open") and token.level == 0:
            raise PageError(f"{place}: `not executed` has to stand right before a block")


def _setup(place: Place, comment: str) -> Iterator[Step]:
    if given := _GIVEN.fullmatch(comment):
        yield Given(place, [name.strip() for name in given[1].split(",")])
    elif script := _SCRIPT.fullmatch(comment):
        yield Script(place, script[1])
    elif comment.startswith("setup"):
        raise PageError(f"{place}: expected `setup: NAMES`, or `setup` and lines of bash")


def _fence(place: Place, token: Token) -> Iterator[Step]:
    language, *words = shlex.split(token.info) or [""]
    attributes = {name: value for name, _, value in (word.partition("=") for word in words)}
    title = attributes.pop("title", None)
    status = attributes.pop("status", "0") if language == "console" else "0"
    if attributes:
        raise PageError(f"{place}: unknown attributes {', '.join(attributes)}")
    if language == "console":
        yield Commands(place, title, _commands(place, token.content, int(status), bool(title)))
    elif title is not None and language == "diff":
        yield EditFile(place, title, *_sides(place, token.content))
    elif title is not None:
        yield WriteFile(place, title, token.content)
    elif language not in ILLUSTRATIONS:
        raise PageError(
            f"{place}: a block of {language or 'no language'} that is not executed; give it the "
            'language console, a title="FILE", or <!-- not executed: reason -->'
        )


def _commands(place: Place, content: str, status: int, may_continue: bool) -> list[Command]:
    commands: list[Command] = []
    lines = content.splitlines()
    while lines:
        here = Place(
            place.page, place.line + len(content.splitlines()) - len(lines) + 1, place.section
        )
        text = _command_text(lines)
        if text is None and not may_continue:
            raise PageError(f"{here}: expected `$ command`, not `{lines[0]}`")
        end = next((n for n, line in enumerate(lines) if line.startswith("$ ")), len(lines))
        output, lines = lines[:end], lines[end:]
        commands.append(Command(here, text or "", output, 0 if lines else status))
    return commands


def _command_text(lines: list[str]) -> str | None:
    """Takes the command from the lines, if they begin with one."""
    if not lines[0].startswith("$ "):
        return None
    text = [lines.pop(0).removeprefix("$ ")]
    while lines and (text[-1].endswith("\\") or lines[0].startswith("> ")):
        text.append(lines.pop(0).removeprefix("> "))
    return "\n".join(text)


def _sides(place: Place, content: str) -> tuple[str, str]:
    lines = content.splitlines(keepends=True)
    if any(line[0] not in " +-\n" for line in lines):
        raise PageError(f"{place}: lines of a diff begin with a space, `-` or `+`")
    before = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
    after = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
    return before, after
