"""Tokenizers that need no network: those of the settings, and those of OpenAI's models."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from pathlib import Path

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.base import (
    HuggingFaceTokenizer,
    TiktokenTokenizer,
    Tokenizer,
)
from pharia_kernel.errors import NotConfigured

_TIKTOKEN = "tiktoken:"
MODEL_OF_ENCODING = {
    "gpt2": "gpt2",
    "r50k_base": "davinci",
    "p50k_base": "text-davinci-003",
    "p50k_edit": "text-davinci-edit-001",
    "cl100k_base": "gpt-4",
    "o200k_base": "gpt-4o",
    "o200k_harmony": "gpt-oss-20b",
}
"""The splitter library knows encodings only by the models that use them."""


def parse_setting(value: str) -> Path | TiktokenTokenizer:
    """``tiktoken:ENCODING`` or the path of a ``tokenizer.json``; raises ``ValueError`` for an
    encoding that does not exist."""
    if not value.startswith(_TIKTOKEN):
        return Path(value)
    encoding = value.removeprefix(_TIKTOKEN)
    if encoding not in MODEL_OF_ENCODING:
        known = ", ".join(MODEL_OF_ENCODING)
        raise ValueError(f"`{encoding}` is no tiktoken encoding; there are {known}")
    return TiktokenTokenizer(MODEL_OF_ENCODING[encoding])


class ConfiguredTokenizers:
    """What the operator's settings say, by the exact name of the model."""

    name = "the settings"

    def __init__(self, settings: Mapping[str, str]) -> None:
        """Model to value of the setting; raises ``ValueError`` like ``parse_setting``."""
        self._settings = {model: parse_setting(value) for model, value in settings.items()}

    def key(self, model: str, context: CallContext) -> Hashable | None:
        return self._settings.get(model)

    async def load(self, model: str, context: CallContext) -> Tokenizer:
        setting = self._settings[model]
        if isinstance(setting, TiktokenTokenizer):
            return setting
        try:
            json = await asyncio.to_thread(setting.read_bytes)
        except OSError as error:
            raise NotConfigured(
                f"The tokenizer file `{setting}` of model `{model}` cannot be read: "
                f"{error.strerror}."
            ) from error
        return await HuggingFaceTokenizer.of(json)

    async def close(self) -> None:
        pass


class OpenAiTokenizers:
    """The vocabularies of OpenAI's models, by the names that OpenAI gave the models.

    Whether a name is one of theirs turns out when the tokenizer is checked.
    """

    name = "tiktoken"

    def key(self, model: str, context: CallContext) -> Hashable:
        return model

    async def load(self, model: str, context: CallContext) -> Tokenizer:
        return TiktokenTokenizer(model)

    async def close(self) -> None:
        pass
