from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from pharia_kernel.csi.types import CallContext, ChunkParams, ChunkRequest
from pharia_kernel.drivers.chunking import Chunker
from pharia_kernel.drivers.tokenizers.base import TokenizerSource
from pharia_kernel.drivers.tokenizers.catalogue import Tokenizers
from pharia_kernel.drivers.tokenizers.configured import ConfiguredTokenizers, OpenAiTokenizers
from pharia_kernel.drivers.tokenizers.protocol import SPANS_PER_FRAME
from pharia_kernel.drivers.tokenizers.splitting import Splitters
from pharia_kernel.errors import InvalidCsiRequest
from tests.drivers.tokenizers.tiny import TEXT, WHITE_SPACE, tiny_json, token_count
from tests.drivers.workers.support import watched

ANYBODY = CallContext()


def _chunker(tmp_path: Path) -> Chunker:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(tiny_json())
    splitters = Splitters(2)
    sources: list[TokenizerSource] = [
        ConfiguredTokenizers({"tiny": str(file)}),
        OpenAiTokenizers(),
    ]
    return Chunker(Tokenizers(sources, splitters.check), splitters)


@pytest.fixture
async def chunker(tmp_path: Path) -> AsyncGenerator[Chunker, None]:
    chunker = _chunker(tmp_path)
    yield chunker
    await chunker.close()


@pytest.fixture
def runner_and_chunker(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Chunker]]:
    """One loop and one set of processes for all examples of a property."""
    with asyncio.Runner() as runner:
        chunker = _chunker(tmp_path)
        yield runner, chunker
        runner.run(chunker.close())


def request(
    text: str, max_tokens: int, overlap: int = 0, *, model: str = "tiny", characters: bool = False
) -> ChunkRequest:
    return ChunkRequest(text, ChunkParams(model, max_tokens, overlap), characters)


@given(
    text=st.text(max_size=400),
    limits=st.tuples(st.integers(1, 40), st.integers(0, 39)).filter(lambda both: both[0] > both[1]),
    model=st.sampled_from(["tiny", "gpt-4o", "nobodys"]),
)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_offsets_slice_the_chunks_out_of_the_text(
    runner_and_chunker: tuple[asyncio.Runner, Chunker],
    text: str,
    limits: tuple[int, int],
    model: str,
) -> None:
    runner, chunker = runner_and_chunker
    chunks = runner.run(
        chunker.chunk(request(text, *limits, model=model, characters=True), ANYBODY)
    )
    encoded = text.encode()
    for chunk in chunks:
        start, byte = chunk.character_offset, chunk.byte_offset
        assert start is not None
        assert text[start : start + len(chunk.text)] == chunk.text
        assert encoded[byte : byte + len(chunk.text.encode())].decode() == chunk.text
    assert bool(chunks) == bool(text.strip(WHITE_SPACE))


async def test_chunks_have_at_most_so_many_tokens(chunker: Chunker) -> None:
    chunked = await chunker.split(request(TEXT, 12), ANYBODY)
    assert chunked.counted == "tokens"
    assert len(chunked.chunks) > 3
    assert all(token_count(chunk.text) <= 12 for chunk in chunked.chunks)
    assert any(len(chunk.text) > 12 for chunk in chunked.chunks)


async def test_without_a_tokenizer_characters_count_and_the_result_says_so(
    chunker: Chunker, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        chunked = await chunker.split(request("hello big world", 9, model="nobodys"), ANYBODY)
        assert [chunk.text for chunk in chunked.chunks] == ["hello big", "world"]
        assert chunked.counted == "characters"
    assert [record.name for record in caplog.records] == ["pharia_kernel.tokenizers"]
    assert "nobodys" in caplog.text


async def test_character_offsets_are_there_if_asked_for(chunker: Chunker) -> None:
    with_them, without = [
        await chunker.chunk(request("ä ö ü", 1, model="nobodys", characters=characters), ANYBODY)
        for characters in (True, False)
    ]
    assert [(c.text, c.byte_offset, c.character_offset) for c in with_them] == [
        ("ä", 0, 0),
        ("ö", 3, 2),
        ("ü", 6, 4),
    ]
    assert [(c.text, c.byte_offset, c.character_offset) for c in without] == [
        ("ä", 0, None),
        ("ö", 3, None),
        ("ü", 6, None),
    ]


async def test_chunks_overlap_if_asked_to(chunker: Chunker) -> None:
    chunks = await chunker.chunk(request("a b c d", 3, 1, model="nobodys"), ANYBODY)
    assert [chunk.text for chunk in chunks] == ["a b", "b c", "c d"]


@pytest.mark.parametrize("text", ["", " ", "\n\n\t"])
async def test_a_text_without_content_has_no_chunks(chunker: Chunker, text: str) -> None:
    assert await chunker.chunk(request(text, 5), ANYBODY) == []


@pytest.mark.parametrize(
    ("max_tokens", "overlap", "said"),
    [
        (0, 0, "`max_tokens` must be between 1 and 4294967295, not 0"),
        (2**32, 0, "not 4294967296"),
        (5, 5, "`overlap` must be .* less than `max_tokens`, not 5 with `max_tokens` 5"),
        (5, 6, "not 6 with `max_tokens` 5"),
        (5, -1, "not -1"),
    ],
)
@pytest.mark.parametrize("text", ["", TEXT])
async def test_limits_that_make_no_sense_are_refused(
    chunker: Chunker, text: str, max_tokens: int, overlap: int, said: str
) -> None:
    with pytest.raises(InvalidCsiRequest, match=said):
        await chunker.chunk(request(text, max_tokens, overlap), ANYBODY)


async def test_overlap_that_multiplies_a_text_beyond_measure_is_refused(chunker: Chunker) -> None:
    text = "a b " * 250_000
    with pytest.raises(InvalidCsiRequest, match=r"`overlap` 999 .* bytes of chunks"):
        await chunker.chunk(request(text, 1000, 999), ANYBODY)
    assert len(await chunker.chunk(request(text, 2**32 - 1, 2**32 - 2), ANYBODY)) == 1


async def test_the_event_loop_goes_on_meanwhile(chunker: Chunker) -> None:
    text = "Größe zählt, sagt der Kern. " * 20_000
    chunking = await watched(chunker.chunk(request(text, 20), ANYBODY))
    assert len(chunking.result) > 10 * SPANS_PER_FRAME
    assert chunking.turns > 1000


async def test_a_batch_gives_the_same_as_single_requests(chunker: Chunker) -> None:
    requests = [request(TEXT * n, 10, n % 3, characters=True) for n in range(1, 30)]
    together = await asyncio.gather(*(chunker.chunk(one, ANYBODY) for one in requests))
    assert together == [await chunker.chunk(one, ANYBODY) for one in requests]
