from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from pharia_kernel.drivers.tokenizers.base import HuggingFaceTokenizer, TiktokenTokenizer
from pharia_kernel.drivers.tokenizers.protocol import SPANS_PER_FRAME
from pharia_kernel.drivers.tokenizers.splitting import Splitters
from pharia_kernel.errors import BadUpstreamAnswer, InvalidCsiRequest, ModelNotFound
from tests.drivers.tokenizers.tiny import picky_json, tiny_json
from tests.drivers.workers.support import split


@pytest.fixture
async def splitters() -> AsyncGenerator[Splitters, None]:
    splitters = Splitters(1)
    yield splitters
    await splitters.close()


async def test_a_process_is_used_again(splitters: Splitters) -> None:
    assert await split(splitters, "hello big world", max_tokens=9) == [(0, 0, 9), (10, 10, 5)]
    pids = splitters.pool.pids
    assert len(pids) == 1
    tokenizer = await HuggingFaceTokenizer.of(tiny_json())
    assert await split(splitters, "hello", tokenizer) == [(0, 0, 5)]
    assert await split(splitters, "") == []
    assert await split(splitters, " \n\n ") == []
    assert splitters.pool.pids == pids


async def test_many_chunks_come_in_many_frames(splitters: Splitters) -> None:
    text = "ä " * (3 * SPANS_PER_FRAME + 1)
    spans = await split(splitters, text, max_tokens=1)
    assert spans == [(3 * i, 2 * i, 1) for i in range(3 * SPANS_PER_FRAME + 1)]


async def test_megabytes_pass_through(splitters: Splitters) -> None:
    text = "Größe zählt. " * 100_000
    spans = await split(splitters, text, max_tokens=1000)
    encoded = text.encode()
    for byte, start, length in spans:
        chunk = text[start : start + length]
        assert encoded[byte : byte + len(chunk.encode())].decode() == chunk


async def test_bad_requests_leave_the_process_usable(splitters: Splitters) -> None:
    await split(splitters, "warm up")
    pids = splitters.pool.pids
    with pytest.raises(ModelNotFound, match="nobodys"):
        await splitters.check(TiktokenTokenizer("nobodys"))
    with pytest.raises(BadUpstreamAnswer, match="cannot be used"):
        await splitters.check(await HuggingFaceTokenizer.of(b"{}"))
    with pytest.raises(BadUpstreamAnswer, match="fails on the text"):
        await split(splitters, "hello moon", await HuggingFaceTokenizer.of(picky_json()))
    with pytest.raises(InvalidCsiRequest, match="character 300001"):
        await split(splitters, "é" * 300_001 + "\ud800")
    assert await split(splitters, "hello") == [(0, 0, 5)]
    assert splitters.pool.pids == pids
