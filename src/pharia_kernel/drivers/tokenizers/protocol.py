"""What the kernel and its splitting processes say to each other.

- ``Has``, ``KnowsModel`` -> bool
- ``Load`` -> str, why it can't be used; empty if it can
- ``Split``, followed by the text -> ``Spans`` until an empty list, or a str, why the tokenizer
  fails on the text
"""

from __future__ import annotations

from msgspec import Struct

Span = tuple[int, int, int]
"""Byte offset, character offset, and length in characters of a chunk in the text."""
Spans = list[Span]

SPANS_PER_FRAME = 1000
"""Few enough that the kernel's loop is not held up by one frame."""


class Has(Struct, tag=True):
    digest: bytes


class KnowsModel(Struct, tag=True):
    """Whether it is one of OpenAI's models, whose vocabularies the splitter library has."""

    openai_model: str


class Load(Struct, tag=True):
    """A ``tokenizer.json``."""

    json: bytes
    digest: bytes


class Split(Struct, tag=True, kw_only=True):
    """Sizes are counted by the tokenizer with this digest or of this model of OpenAI's, else in
    characters."""

    max_tokens: int
    overlap: int
    digest: bytes = b""
    openai_model: str = ""
    seconds: float
    """The process ends itself if it takes longer."""
    length: int
    """Bytes of UTF-8 that follow."""


Question = Has | KnowsModel | Load | Split
