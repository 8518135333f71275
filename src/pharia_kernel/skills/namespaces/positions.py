"""Where things stand in a TOML text, which the standard library's parser does not tell."""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

from pharia_kernel.config.problems import Location

MAX_KEY_PARTS = 16

_TOKEN = re.compile(
    r"""
    (?P<blank> [\ \t\r]+ | \#[^\n]* )
  | (?P<newline> \n )
  | (?P<text> \"{3} (?:[^"\\] | \\. | "(?!""))*+ "{3,5}
            | '{3} (?:[^'] | '(?!''))*+ '{3,5}
            | " (?:[^"\\\n] | \\.)*+ "
            | ' [^'\n]*+ ' )
  | (?P<mark> [\[\]{}=,.] )
  | (?P<bare> [^\s\#"'\[\]{}=,.]+ )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Position(NamedTuple):
    """Both are counted from 1; a column is a character."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


def position_of(text: str, offset: int) -> Position:
    start = text.rfind("\n", 0, offset) + 1
    return Position(text.count("\n", 0, offset) + 1, offset - start + 1)


def overlong_key(text: str) -> Position | None:
    """A dotted key with more than ``MAX_KEY_PARTS`` parts, if there is one.

    Time and memory that ``tomllib`` takes grow with the square of the number: a key of 200 kB takes
    tens of gigabytes. So look for such a key before parsing.
    """
    dots = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "other":  # an unterminated string, say: nothing is parsed after it
            return None
        if token[0] == ".":
            dots += 1
            if dots >= MAX_KEY_PARTS:
                return position_of(text, token.start())
        elif token.lastgroup not in {"blank", "bare", "text"}:
            dots = 0
    return None


class Positions:
    """Of the keys, and of the items of arrays, of a text that is known to be valid TOML."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offsets = _Outline(text).offsets

    def __getitem__(self, location: Location) -> Position:
        """Where the value at the location begins to be spoken of: its key, or the item of an array;
        what nobody wrote is where its parent is.
        """
        while location and location not in self._offsets:
            location = location[:-1]
        return position_of(self._text, self._offsets.get(location, 0))

    def locations(self) -> set[Location]:
        return set(self._offsets)


class _Token(NamedTuple):
    kind: str
    text: str
    offset: int


class _Outline:
    """Reads just enough of the syntax to know what begins where."""

    def __init__(self, text: str) -> None:
        self.offsets: dict[Location, int] = {}
        self._lengths: dict[Location, int] = {}
        """Of the arrays of tables."""
        self._tokens = [
            _Token(token.lastgroup or "", token[0], token.start())
            for token in _TOKEN.finditer(text)
            if token.lastgroup != "blank"
        ]
        self._tokens.append(_Token("end", "", len(text)))
        self._next = 0
        self._document()

    # --- tokens -----------------------------------------------------------------------------------

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        if token.kind != "end":
            self._next += 1
        return token

    def _skip(self, *texts: str) -> None:
        while self._token.text in texts and self._token.kind != "end":
            self._next += 1

    # --- syntax -----------------------------------------------------------------------------------

    def _document(self) -> None:
        table: Location = ()
        while self._token.kind != "end":
            if self._token.kind == "newline":
                self._take()
            elif self._token.text == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Location:
        offset = self._token.offset
        self._skip("[")
        location: Location = ()
        for _, part in (keys := self._key())[:-1]:
            self.offsets.setdefault((*location, part), offset)
            location = self._newest((*location, part))
        location = (*location, keys[-1][1])
        if self._closes_array():
            self.offsets.setdefault(location, offset)
            index = self._lengths.get(location, 0)
            self._lengths[location] = index + 1
            location = (*location, index)
        self._skip("]")
        self.offsets.setdefault(location, offset)
        return location

    def _closes_array(self) -> bool:
        first, second = self._tokens[self._next : self._next + 2]
        return first.text == second.text == "]"

    def _newest(self, location: Location) -> Location:
        """A header that leads through an array of tables means its last table."""
        length = self._lengths.get(location)
        return location if length is None else (*location, length - 1)

    def _key(self) -> list[tuple[int, str]]:
        """Offset and text of the parts of a dotted key."""
        parts = []
        while True:
            token = self._take()
            parts.append((token.offset, _unquoted(token)))
            if self._token.text != ".":
                return parts
            self._take()

    def _pair(self, table: Location) -> None:
        location = table
        for offset, part in self._key():
            location = (*location, part)
            self.offsets.setdefault(location, offset)
        self._skip("=")
        self._value(location)

    def _value(self, location: Location) -> None:
        match self._token.text:
            case "[":
                self._array(location)
            case "{":
                self._inline_table(location)
            case _:
                self._scalar()

    def _scalar(self) -> None:
        """A number or a time may consist of several tokens."""
        self._take()
        while self._token.kind == "bare" or self._token.text == ".":
            self._take()

    def _array(self, location: Location) -> None:
        self._take()
        index = 0
        self._skip("\n")
        while self._token.text not in {"]", ""}:
            self.offsets[(*location, index)] = self._token.offset
            self._value((*location, index))
            self._skip("\n", ",")
            index += 1
        self._take()

    def _inline_table(self, location: Location) -> None:
        self._take()
        self._skip("\n")
        while self._token.text not in {"}", ""}:
            self._pair(location)
            self._skip("\n", ",")
        self._take()


def _unquoted(token: _Token) -> str:
    if token.kind != "text":
        return token.text
    return next(iter(tomllib.loads(f"{token.text} = 0")))
