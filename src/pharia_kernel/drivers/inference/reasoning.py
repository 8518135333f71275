"""Tells reasoning in ``<think>`` tags apart from the answer, however the text is cut."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

_OPEN, _CLOSE = "<think>", "</think>"


class Piece(NamedTuple):
    text: str
    """Never empty."""
    reasoning: bool


class _State(Enum):
    START = auto()
    THINKING = auto()
    CONTENT = auto()


class ThinkParser:
    """Only a tag at the start of the message counts, after white space at most, and only one pair.

    White space before an opening tag is dropped, text after the closing tag is kept as it is. Text
    is held back only while it may still turn out to be (white space before) a tag.
    """

    def __init__(self) -> None:
        self._state = _State.START
        self._held = ""

    @property
    def transparent(self) -> bool:
        """Everything from here on is content, so there is no need to feed it."""
        return self._state is _State.CONTENT

    @property
    def thinking(self) -> bool:
        return self._state is _State.THINKING

    def feed(self, text: str) -> list[Piece]:
        text, self._held = self._held + text, ""
        if self._state is _State.START:
            return self._start(text)
        if self.thinking:
            return self._think(text)
        return _pieces(text, reasoning=False)

    def finish(self) -> list[Piece]:
        """The message is over: what was held back is no tag."""
        text, self._held = self._held, ""
        pieces = _pieces(text, reasoning=self.thinking)
        self._state = _State.CONTENT
        return pieces

    def _start(self, text: str) -> list[Piece]:
        stripped = text.lstrip()
        if stripped.startswith(_OPEN):
            self._state = _State.THINKING
            return self._think(stripped[len(_OPEN) :])
        if _OPEN.startswith(stripped):
            self._held = text
            return []
        self._state = _State.CONTENT
        return _pieces(text, reasoning=False)

    def _think(self, text: str) -> list[Piece]:
        thought, tag, content = text.partition(_CLOSE)
        if tag:
            self._state = _State.CONTENT
            return _pieces(thought, reasoning=True) + _pieces(content, reasoning=False)
        held = _length_of_begun_tag(text)
        self._held = text[len(text) - held :]
        return _pieces(text[: len(text) - held], reasoning=True)


def split_reasoning(text: str) -> tuple[str | None, str | None]:
    """Reasoning and content of a whole message.

    Reasoning is none without a tag; content is none if the message never leaves its reasoning.
    """
    parser = ThinkParser()
    pieces = parser.feed(text)
    unfinished = parser.thinking
    pieces += parser.finish()
    reasoning = "".join(piece.text for piece in pieces if piece.reasoning)
    content = "".join(piece.text for piece in pieces if not piece.reasoning)
    return reasoning or None, None if unfinished else content


def _pieces(text: str, *, reasoning: bool) -> list[Piece]:
    return [Piece(text, reasoning)] if text else []


def _length_of_begun_tag(text: str) -> int:
    """How many characters at the end of the text may be the beginning of a closing tag."""
    for length in range(min(len(text), len(_CLOSE) - 1), 0, -1):
        if text.endswith(_CLOSE[:length]):
            return length
    return 0
