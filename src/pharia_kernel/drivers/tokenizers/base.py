"""What a tokenizer is to the kernel, and the interface of the places it can come from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Hashable
from typing import Protocol

from msgspec import Struct

from pharia_kernel.csi.types import CallContext


class HuggingFaceTokenizer(Struct, frozen=True, weakref=True):
    """The text of a ``tokenizer.json``. The kernel never parses it: worker processes do."""

    json: bytes
    digest: bytes
    """SHA-256 of ``json``."""

    @classmethod
    async def of(cls, json: bytes) -> HuggingFaceTokenizer:
        return cls(json, await asyncio.to_thread(lambda: hashlib.sha256(json).digest()))


class TiktokenTokenizer(Struct, frozen=True, weakref=True):
    """A vocabulary of OpenAI's; all of them come with the splitter library."""

    model: str
    """OpenAI's name of a model that uses it."""


Tokenizer = HuggingFaceTokenizer | TiktokenTokenizer


class TokenizerSource(Protocol):
    """One place where tokenizers come from."""

    @property
    def name(self) -> str:
        """For the log; no two sources have the same."""
        ...

    def key(self, model: str, context: CallContext) -> Hashable | None:
        """What the tokenizer depends on besides the model: callers with equal keys share it.

        None if this source is not for the model. Raises ``CsiError`` if it can't serve the caller.
        """
        ...

    async def load(self, model: str, context: CallContext) -> Tokenizer:
        """Raises ``CsiError``."""
        ...

    async def close(self) -> None: ...
