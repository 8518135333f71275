"""The splitting itself, without a process around it."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from pharia_kernel.drivers.tokenizers.configured import MODEL_OF_ENCODING
from pharia_kernel.drivers.tokenizers.protocol import Load, Split
from pharia_kernel.drivers.tokenizers.worker import TOKENIZERS_KEPT, Splitter, token_counter
from tests.drivers.tokenizers.tiny import (
    TEXT,
    WHITE_SPACE,
    WORDS,
    limited_json,
    tiny_json,
    tiny_tokenizer,
    token_count,
)

LIMITS = st.tuples(st.integers(1, 30), st.integers(0, 29)).filter(lambda both: both[0] > both[1])
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from([*TEXT, *WORDS.split(), "\n\n", "\r\n", " ", ". "]), max_size=200).map(
        "".join
    ),
    st.sampled_from("aé日👩").flatmap(lambda c: st.integers(0, 400).map(lambda n: c * n)),
)


@pytest.fixture(scope="module")
def splitter() -> Splitter:
    splitter = Splitter()
    splitter.load(Load(tiny_json(), b"tiny"))
    splitter.load(Load(limited_json(), b"limited"))
    return splitter


def question(max_tokens: int, overlap: int = 0, *, digest: bytes = b"", model: str = "") -> Split:
    return Split(
        length=0,
        max_tokens=max_tokens,
        overlap=overlap,
        digest=digest,
        openai_model=model,
        seconds=60,
    )


@given(TEXTS, LIMITS, st.sampled_from([b"", b"tiny"]))
@settings(deadline=None)
def test_spans_cut_the_chunks_out_of_the_text(
    splitter: Splitter, text: str, limits: tuple[int, int], digest: bytes
) -> None:
    encoded, end = text.encode(), 0
    for byte, start, length in splitter.split(question(*limits, digest=digest), text):
        chunk = text[start : start + length]
        assert encoded[byte : byte + len(chunk.encode())].decode() == chunk
        assert chunk == chunk.strip(WHITE_SPACE) != ""
        # Nothing but white space is left out.
        assert text[end:start].strip(WHITE_SPACE) == ""
        end = start + length
    assert text[end:].strip(WHITE_SPACE) == ""


@given(TEXTS, LIMITS)
@settings(deadline=None)
def test_counting_in_python_splits_as_the_library_does(
    splitter: Splitter, text: str, limits: tuple[int, int]
) -> None:
    expected = TextSplitter.from_huggingface_tokenizer(tiny_tokenizer(), *limits).chunks(text)
    spans = splitter.split(question(*limits, digest=b"tiny"), text)
    assert [text[start : start + length] for _, start, length in spans] == expected


def test_chunks_are_as_long_as_tokens_allow_without_special_ones(splitter: Splitter) -> None:
    whole = token_count(TEXT.strip())
    assert len(list(splitter.split(question(whole, digest=b"tiny"), TEXT))) == 1
    assert len(list(splitter.split(question(whole - 1, digest=b"tiny"), TEXT))) > 1


def test_truncation_and_padding_of_the_tokenizer_do_not_count(splitter: Splitter) -> None:
    tiny = list(splitter.split(question(10, 3, digest=b"tiny"), TEXT))
    limited = list(splitter.split(question(10, 3, digest=b"limited"), TEXT))
    assert tiny == limited
    assert len(tiny) > 3


def test_overlapping_chunks_begin_before_the_last_one_ends(splitter: Splitter) -> None:
    spans = list(splitter.split(question(10, 5, digest=b"tiny"), WORDS))
    assert len(spans) > 2
    for (_, start, length), (_, following, _) in pairwise(spans):
        assert following < start + length
        assert token_count(WORDS[following : start + length]) <= 5


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4", ["hello world, internationalization", "1234567", "grüße"]),
        ("gpt-4o", ["hello world, internationalization", "1234567 grüße"]),
    ],
)
def test_vocabularies_of_openai_are_there_without_a_network(
    splitter: Splitter, model: str, expected: list[str]
) -> None:
    text = "hello world, internationalization 1234567 grüße"
    assert splitter.knows(model)
    spans = splitter.split(question(5, model=model), text)
    assert [text[start : start + length] for _, start, length in spans] == expected


def test_other_models_have_no_vocabulary(splitter: Splitter) -> None:
    assert not splitter.knows("nobodys")


@pytest.mark.parametrize("model", MODEL_OF_ENCODING.values())
def test_every_encoding_of_the_settings_is_there(splitter: Splitter, model: str) -> None:
    assert splitter.knows(model)


def test_the_tokenizer_that_was_used_least_recently_is_forgotten() -> None:
    splitter = Splitter()
    splitter.load(Load(tiny_json(), b"used"))
    splitter.load(Load(tiny_json(), b"unused"))
    for number in range(TOKENIZERS_KEPT - 1):
        list(splitter.split(question(5, digest=b"used"), "a b c"))
        splitter.load(Load(tiny_json(), bytes([number])))
    assert splitter.has(b"used")
    assert not splitter.has(b"unused")


class CountingTokenizer:
    """Counts the characters that it is given."""

    def __init__(self) -> None:
        self.tokenizer = tiny_tokenizer()
        self.characters = 0

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> list[object]:
        self.characters += sum(map(len, texts))
        return list(self.tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens))


def test_one_endless_word_is_not_tokenized_again_for_each_chunk() -> None:
    word, counting = "x" * 100_000, CountingTokenizer()
    stand_in: Tokenizer = counting  # type: ignore[assignment]
    chunks = TextSplitter.from_callback(token_counter(stand_in, 50), 50).chunks(word)
    assert "".join(chunks) == word
    assert counting.characters < 50 * len(word)
