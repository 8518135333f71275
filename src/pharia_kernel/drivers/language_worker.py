"""The process that detects languages: the library holds Python's lock while it works."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO

from lingua import Language, LanguageDetector, LanguageDetectorBuilder
from msgspec import Struct
from msgspec.msgpack import Decoder

from pharia_kernel.drivers.workers.frames import serve

_MINIMUM_RELATIVE_DISTANCE = 0.5


class Detect(Struct):
    """Followed by the text; the answer is a code or null."""

    codes: list[str]
    """ISO 639-3, sorted, without duplicates."""
    length: int
    """Bytes of UTF-8 that follow."""


def _code(language: Language) -> str:
    return language.iso_code_639_3.name.lower()


LANGUAGES = {_code(language): language for language in Language.all()}


def detect(text: str, codes: tuple[str, ...]) -> str | None:
    language = _detector(codes).detect_language_of(text)
    return None if language is None else _code(language)


@lru_cache(maxsize=256)
def _detector(codes: tuple[str, ...]) -> LanguageDetector:
    builder = LanguageDetectorBuilder.from_languages(*(LANGUAGES[code] for code in codes))
    return builder.with_minimum_relative_distance(_MINIMUM_RELATIVE_DISTANCE).build()


def _answer(question: Detect, input_: BinaryIO) -> Iterator[str | None]:
    yield detect(input_.read(question.length).decode(), tuple(question.codes))


if __name__ == "__main__":
    serve(Decoder(Detect), _answer)
