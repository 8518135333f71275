from __future__ import annotations

from pathlib import Path

import pytest

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.base import HuggingFaceTokenizer, TiktokenTokenizer
from pharia_kernel.drivers.tokenizers.configured import ConfiguredTokenizers, OpenAiTokenizers
from pharia_kernel.errors import NotConfigured
from tests.drivers.tokenizers.tiny import tiny_json

ANYBODY = CallContext()


async def test_a_model_may_have_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(tiny_json())
    source = ConfiguredTokenizers({"mine": str(file)})
    assert source.key("mine", ANYBODY) is not None
    assert source.key("Mine", ANYBODY) is None
    tokenizer = await source.load("mine", ANYBODY)
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    assert tokenizer.json == tiny_json()


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "missing.json"
    source = ConfiguredTokenizers({"mine": str(file)})
    with pytest.raises(NotConfigured, match=r"missing\.json.*`mine`.*No such file"):
        await source.load("mine", ANYBODY)


async def test_a_model_may_have_an_encoding() -> None:
    source = ConfiguredTokenizers({"mine": "tiktoken:cl100k_base"})
    assert await source.load("mine", ANYBODY) == TiktokenTokenizer("gpt-4")


def test_an_encoding_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"`cl100k` is no tiktoken encoding; there are .*cl100k_base"
    ):
        ConfiguredTokenizers({"mine": "tiktoken:cl100k"})


async def test_models_of_openai_go_by_their_names() -> None:
    source = OpenAiTokenizers()
    assert await source.load("gpt-4o-mini", ANYBODY) == TiktokenTokenizer("gpt-4o-mini")
