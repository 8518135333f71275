from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.base import (
    HuggingFaceTokenizer,
    TiktokenTokenizer,
    Tokenizer,
    TokenizerSource,
)
from pharia_kernel.drivers.tokenizers.catalogue import Tokenizers
from pharia_kernel.drivers.tokenizers.configured import ConfiguredTokenizers, OpenAiTokenizers
from pharia_kernel.drivers.tokenizers.provider import ProviderTokenizers
from pharia_kernel.drivers.tokenizers.splitting import Splitters
from tests.drivers.tokenizers.server import TokenizerServer
from tests.drivers.tokenizers.tiny import tiny_json

CALLER = CallContext(token="token")
OTHER = CallContext(token="other-token")
STRANGER = CallContext(token="stolen")
NOBODY = CallContext()


class Subject:
    """Tokenizers checked by real processes, and a clock to turn."""

    def __init__(self, *sources: TokenizerSource) -> None:
        self.now = 0.0
        self.splitters = Splitters(2)
        self.checked: list[Tokenizer] = []
        self.tokenizers = self.over(sources)

    def over(self, sources: Sequence[TokenizerSource]) -> Tokenizers:
        return Tokenizers(sources, self._check, ttl=100.0, failure_ttl=10.0, clock=lambda: self.now)

    async def find(self, model: str, context: CallContext) -> Tokenizer | None:
        return await self.tokenizers.find(model, context)

    async def close(self) -> None:
        await self.tokenizers.close()
        await self.splitters.close()

    async def _check(self, tokenizer: Tokenizer) -> None:
        self.checked.append(tokenizer)
        await self.splitters.check(tokenizer)


@pytest.fixture
async def subject(server: TokenizerServer) -> AsyncGenerator[Subject, None]:
    subject = Subject(ProviderTokenizers(server.url))
    yield subject
    await subject.close()


async def test_one_download_however_many_ask_at_once(
    subject: Subject, server: TokenizerServer
) -> None:
    server.open.clear()
    callers = [asyncio.create_task(subject.find("tiny", CALLER)) for _ in range(50)]
    assert await server.arrived.get() == "tiny"
    server.open.set()
    found = await asyncio.gather(*callers)
    assert all(isinstance(one, HuggingFaceTokenizer) and one is found[0] for one in found)
    assert server.asked == {"tiny": 1}
    assert len(subject.checked) == 1


async def test_a_slow_model_delays_no_other(subject: Subject, server: TokenizerServer) -> None:
    await subject.find("tiny", CALLER)
    server.bodies |= {"slow": tiny_json(), "slower": tiny_json()}
    server.open.clear()
    callers = [asyncio.create_task(subject.find(model, CALLER)) for model in ("slow", "slower")]
    while server.asked.total() < 3:
        await server.arrived.get()
    assert await subject.find("tiny", CALLER) is not None
    assert not any(caller.done() for caller in callers)
    server.open.set()
    assert all(await asyncio.gather(*callers))


async def test_a_download_that_nobody_waits_for_is_stopped(
    subject: Subject, server: TokenizerServer
) -> None:
    server.open.clear()
    caller = asyncio.create_task(subject.find("tiny", CALLER))
    await server.arrived.get()
    caller.cancel()
    await asyncio.wait_for(server.left.wait(), 10)


async def test_what_the_provider_gave_to_one_caller_is_not_given_to_another(
    subject: Subject, server: TokenizerServer
) -> None:
    mine = await subject.find("tiny", CALLER)
    assert mine is not None
    assert await subject.find("tiny", NOBODY) is None
    assert await subject.find("tiny", STRANGER) is None
    assert server.asked["tiny"] == 2
    # The same content is neither kept nor checked twice.
    assert await subject.find("tiny", OTHER) is mine
    assert len(subject.checked) == 1


async def test_a_refused_caller_does_not_spoil_it_for_the_others(
    subject: Subject, server: TokenizerServer
) -> None:
    assert await subject.find("tiny", STRANGER) is None
    assert await subject.find("tiny", CALLER) is not None


async def test_failures_are_forgotten_soon(subject: Subject, server: TokenizerServer) -> None:
    server.status = 500
    for _ in range(3):
        assert await subject.find("tiny", CALLER) is None
    assert server.asked["tiny"] == 1
    server.status = 200
    subject.now = 10.0
    assert await subject.find("tiny", CALLER) is not None
    assert server.asked["tiny"] == 2


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b"\xff", b"[" * 10_000])
async def test_nonsense_is_no_tokenizer(
    subject: Subject, server: TokenizerServer, body: bytes
) -> None:
    server.bodies["tiny"] = body
    assert await subject.find("tiny", CALLER) is None


async def test_the_first_source_that_has_one_wins(server: TokenizerServer, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(tiny_json())
    subject = Subject(
        ConfiguredTokenizers({"mine": str(file), "broken": str(tmp_path / "missing")}),
        ProviderTokenizers(server.url),
        OpenAiTokenizers(),
    )
    server.bodies["broken"] = tiny_json()
    assert isinstance(await subject.find("mine", NOBODY), HuggingFaceTokenizer)
    assert not server.asked
    assert isinstance(await subject.find("broken", CALLER), HuggingFaceTokenizer)
    assert await subject.find("gpt-4o-mini", CALLER) == TiktokenTokenizer("gpt-4o-mini")
    assert server.asked == {"broken": 1, "gpt-4o-mini": 1}
    assert await subject.find("nobodys", CALLER) is None
    await subject.close()


async def test_the_log_says_once_per_model_why_there_is_none(
    subject: Subject, server: TokenizerServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pharia_kernel.tokenizers"):
        for model in ("one", "two", "one", "one"):
            assert await subject.find(model, CALLER) is None
            subject.now += 20.0
    messages = [record.getMessage() for record in caplog.records]
    assert [record.name for record in caplog.records] == ["pharia_kernel.tokenizers"] * 2
    assert "'one'" in messages[0] and "characters" in messages[0]
    assert "the inference provider: The inference backend has no model `one`" in messages[0]
    assert "'two'" in messages[1]
    assert server.asked == {"one": 3, "two": 1}


async def test_without_sources_there_are_no_tokenizers(caplog: pytest.LogCaptureFixture) -> None:
    subject = Subject()
    assert await subject.find("any", CALLER) is None
    assert "No source of tokenizers is configured" in caplog.text
    await subject.close()


async def test_a_name_that_no_model_has_is_not_passed_on(
    subject: Subject, server: TokenizerServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert await subject.find("x" * 1_000_000, CALLER) is None
    assert not server.asked
    assert len(caplog.text) < 2000
