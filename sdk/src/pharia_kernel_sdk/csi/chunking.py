"""Splitting texts into pieces that models can digest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ChunkParams:
    """How large chunks are, in tokens of a model."""

    model: str
    """Whose tokens are counted."""
    max_tokens: int
    """The most that a chunk has."""
    overlap: int = 0
    """The most that neighbours share."""


@dataclass
class ChunkRequest:
    """One text to split."""

    text: str
    params: ChunkParams


@dataclass
class Chunk:
    """A piece of the text that begins at its character ``character_offset``."""

    text: str
    character_offset: int
