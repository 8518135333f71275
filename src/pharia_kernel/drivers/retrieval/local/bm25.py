"""Keyword vectors: what a text says literally, weighted as in BM25.

The inverse document frequency is Qdrant's part. The average length is a constant, because the true
one changes with each document.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter

from msgspec import Struct

_K1 = 1.2
_B = 0.75
_AVERAGE_WORDS = 128.0
_WORD = re.compile(r"\w+")


class SparseVector(Struct, frozen=True):
    indices: list[int]
    """Each at most once."""
    values: list[float]


def of_document(text: str) -> SparseVector:
    words = _words(text)
    norm = _K1 * (1.0 - _B + _B * len(words) / _AVERAGE_WORDS)
    return _vector({word: n * (_K1 + 1.0) / (n + norm) for word, n in Counter(words).items()})


def of_query(text: str) -> SparseVector:
    return _vector(dict.fromkeys(_words(text), 1.0))


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _vector(weights: dict[str, float]) -> SparseVector:
    # Words that share a number are one word to the index; with 32 bits that is rare.
    numbered: dict[int, float] = {}
    for word, weight in weights.items():
        number = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        numbered[number] = max(weight, numbered.get(number, 0.0))
    return SparseVector(list(numbered), list(numbered.values()))
