"""The process that parses tokenizers and splits texts.

Some texts take quadratic time (one word of megabytes), some parameters ask for far more output than
there is input, and the libraries neither stop when asked nor always release Python's lock. So this
is done where it can be killed, with a limit on memory.
"""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import BinaryIO

from msgspec.msgpack import Decoder
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from pharia_kernel.drivers.tokenizers.protocol import (
    SPANS_PER_FRAME,
    Has,
    KnowsModel,
    Load,
    Question,
    Span,
    Split,
)
from pharia_kernel.drivers.workers.frames import serve

TOKENIZERS_KEPT = 8
_MAX_REASON = 300
_CHARACTERS_PER_TOKEN = 8


class Splitter:
    """Splits texts; keeps the tokenizers that were used last."""

    def __init__(self) -> None:
        self._tokenizers: OrderedDict[bytes, Tokenizer] = OrderedDict()

    def has(self, digest: bytes) -> bool:
        return digest in self._tokenizers

    def knows(self, openai_model: str) -> bool:
        try:
            TextSplitter.from_tiktoken_model(openai_model, 1)
        except Exception:  # the library has no type of its own
            return False
        return True

    def load(self, question: Load) -> None:
        """Raises an exception of the library's choice."""
        tokenizer = Tokenizer.from_buffer(question.json)
        # Both would hide how long a text really is.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizers[question.digest] = tokenizer
        if len(self._tokenizers) > TOKENIZERS_KEPT:
            self._tokenizers.popitem(last=False)

    def split(self, question: Split, text: str) -> Iterator[Span]:
        return spans(text, self._splitter(question).chunk_indices(text))

    def _splitter(self, question: Split) -> TextSplitter:
        capacity, overlap = question.max_tokens, question.overlap
        if question.openai_model:
            return TextSplitter.from_tiktoken_model(question.openai_model, capacity, overlap)
        if question.digest:
            self._tokenizers.move_to_end(question.digest)
            size = token_counter(self._tokenizers[question.digest], capacity)
            return TextSplitter.from_callback(size, capacity, overlap)
        return TextSplitter(capacity, overlap)


def token_counter(tokenizer: Tokenizer, capacity: int) -> Callable[[str], int]:
    """Number of tokens without special ones, exact as long as it is not far above ``capacity``.

    The splitter asks for the size of everything up to the end of a word or sentence, and does so
    again for each chunk in it. To know that it is too much, the beginning is enough.
    """

    def count(text: str) -> int:
        return len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])

    def size(text: str) -> int:
        length = capacity * _CHARACTERS_PER_TOKEN
        while length < len(text):
            beginning = count(text[:length])
            if beginning > 2 * capacity:
                return beginning
            length *= 4
        return count(text)

    return size


def spans(text: str, chunks: list[tuple[int, str]]) -> Iterator[Span]:
    """From chunks with their character offsets, which never decrease."""
    characters = bytes_ = 0
    for offset, chunk in chunks:
        bytes_ += len(text[characters:offset].encode())
        characters = offset
        yield bytes_, characters, len(chunk)


def _answers(splitter: Splitter, question: Question, input_: BinaryIO) -> Iterator[object]:
    match question:
        case Has(digest):
            yield splitter.has(digest)
        case KnowsModel(model):
            yield splitter.knows(model)
        case Load():
            yield _load(splitter, question)
        case Split():
            text = input_.read(question.length).decode()
            # Nobody handles SIGALRM: it ends the process, even in the middle of native code.
            signal.setitimer(signal.ITIMER_REAL, question.seconds)
            yield from _split(splitter, question, text)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _load(splitter: Splitter, question: Load) -> str:
    try:
        splitter.load(question)
    except MemoryError:
        raise
    except Exception as error:
        return _reason(error)
    return ""


def _split(splitter: Splitter, question: Split, text: str) -> Iterator[list[Span] | str]:
    try:
        found = splitter.split(question, text)
    except MemoryError:
        raise
    except Exception as error:
        yield _reason(error)
        return
    while some := list(islice(found, SPANS_PER_FRAME)):
        yield some
    yield []


def _reason(error: Exception) -> str:
    return str(error)[:_MAX_REASON] or type(error).__name__


if __name__ == "__main__":
    questions: Decoder[Question] = Decoder(Question)
    serve(questions, partial(_answers, Splitter()))
