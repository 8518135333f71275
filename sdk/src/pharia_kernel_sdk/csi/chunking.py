"""Splitting texts into pieces that models can digest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ChunkParams:
    """At most ``max_tokens`` tokens of the model in a chunk; neighbours share up to ``overlap``."""

    model: str
    max_tokens: int
    overlap: int = 0


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
