"""Finds the tokenizer of a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from weakref import WeakValueDictionary

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.base import (
    HuggingFaceTokenizer,
    Tokenizer,
    TokenizerSource,
)
from pharia_kernel.drivers.tokenizers.cache import LruDict, SingleFlightCache
from pharia_kernel.errors import CsiError, ModelNotFound

log = logging.getLogger("pharia_kernel.tokenizers")

_LONGEST_NAME = 256
_WARNINGS_KEPT = 1024


class Tokenizers:
    """Asks its sources in order. Tokenizers are loaded once, different models at the same time."""

    def __init__(
        self,
        sources: Sequence[TokenizerSource],
        check: Callable[[Tokenizer], Awaitable[None]],
        *,
        capacity: int = 128,
        ttl: float = 3600.0,
        failure_ttl: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``check`` raises ``CsiError`` for a tokenizer that can't be used. A tokenizer is loaded
        anew after ``ttl`` seconds, and a failure tried again after ``failure_ttl``."""
        self._sources = sources
        self._check = check
        self._cache: SingleFlightCache[Hashable, Tokenizer] = SingleFlightCache(
            capacity=capacity, ttl=ttl, failure_ttl=failure_ttl, clock=clock
        )
        self._by_digest: WeakValueDictionary[bytes, HuggingFaceTokenizer] = WeakValueDictionary()
        self._warned: LruDict[str, bool] = LruDict(_WARNINGS_KEPT, float("inf"), clock)

    async def find(self, model: str, context: CallContext) -> Tokenizer | None:
        """None if no source has one that the caller may use; the log says why, once per model."""
        reasons: list[str] = []
        for source in self._sources:
            try:
                tokenizer = await self._from(source, model, context)
            except CsiError as error:
                reasons.append(f"{source.name}: {error.detail}")
            else:
                if tokenizer is not None:
                    return tokenizer
        self._warn(model, reasons)
        return None

    async def close(self) -> None:
        for source in self._sources:
            await source.close()

    async def _from(
        self, source: TokenizerSource, model: str, context: CallContext
    ) -> Tokenizer | None:
        if len(model) > _LONGEST_NAME:
            raise ModelNotFound(f"The name of a model has at most {_LONGEST_NAME} characters.")
        key = source.key(model, context)
        if key is None:
            return None
        return await self._cache.get(
            (source.name, model, key), partial(self._load, source, model, context)
        )

    async def _load(self, source: TokenizerSource, model: str, context: CallContext) -> Tokenizer:
        tokenizer = await source.load(model, context)
        if not isinstance(tokenizer, HuggingFaceTokenizer):
            await self._check(tokenizer)
            return tokenizer
        # Callers that each loaded the same tokenizer share its megabytes.
        known = self._by_digest.get(tokenizer.digest)
        if known is not None:
            return known
        await self._check(tokenizer)
        return self._by_digest.setdefault(tokenizer.digest, tokenizer)

    def _warn(self, model: str, reasons: list[str]) -> None:
        model = model[:_LONGEST_NAME]
        if self._warned.get(model):
            return
        self._warned.put(model, True)
        log.warning(
            "No tokenizer for model %r: its chunks are sized in characters instead of tokens. %s",
            model,
            "; ".join(reasons) or "No source of tokenizers is configured.",
        )
