"""Splits texts into chunks that a model can take."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pharia_kernel.csi.types import CallContext, Chunk, ChunkParams, ChunkRequest
from pharia_kernel.drivers.tokenizers.catalogue import Tokenizers
from pharia_kernel.drivers.tokenizers.protocol import Spans
from pharia_kernel.drivers.tokenizers.splitting import Splitters
from pharia_kernel.errors import InvalidCsiRequest

MAX_ANSWER = 1 << 30
"""Bytes that the chunks of one text may take in memory."""
_BYTES_PER_CHUNK = 200
_U32_MAX = 2**32 - 1


class Chunked(Struct):
    chunks: list[Chunk]
    counted: Literal["tokens", "characters"]
    """What the limits were measured in; characters if there is no tokenizer for the model."""


class Chunker:
    """Implements the system calls ``chunk`` and ``chunk_with_offsets``."""

    def __init__(self, tokenizers: Tokenizers, splitters: Splitters) -> None:
        self._tokenizers = tokenizers
        self._splitters = splitters

    async def chunk(self, request: ChunkRequest, context: CallContext) -> list[Chunk]:
        """Chunks in order, without white space around them. Raises ``CsiError``."""
        return (await self.split(request, context)).chunks

    async def split(self, request: ChunkRequest, context: CallContext) -> Chunked:
        """The chunks, and what they were measured in. Raises ``CsiError``."""
        text, params = request.text, request.params
        _check(text, params)
        tokenizer = await self._tokenizers.find(params.model, context)
        chunks: list[Chunk] = []

        def add(spans: Spans) -> None:
            chunks.extend(
                Chunk(
                    text[start : start + length],
                    byte_offset,
                    start if request.character_offsets else None,
                )
                for byte_offset, start, length in spans
            )

        await self._splitters.split(
            text,
            tokenizer,
            max_tokens=params.max_tokens,
            overlap=params.overlap,
            context=context,
            each=add,
        )
        return Chunked(chunks, "characters" if tokenizer is None else "tokens")

    async def close(self) -> None:
        await self._splitters.close()
        await self._tokenizers.close()


def _check(text: str, params: ChunkParams) -> None:
    if not 1 <= params.max_tokens <= _U32_MAX:
        raise InvalidCsiRequest(
            f"`max_tokens` must be between 1 and {_U32_MAX}, not {params.max_tokens}."
        )
    if not 0 <= params.overlap < params.max_tokens:
        raise InvalidCsiRequest(
            "`overlap` must be at least 0 and less than `max_tokens`, "
            f"not {params.overlap} with `max_tokens` {params.max_tokens}."
        )
    answer = _largest_answer(len(text), params)
    if answer > MAX_ANSWER:
        raise InvalidCsiRequest(
            f"`max_tokens` {params.max_tokens} and `overlap` {params.overlap} would make up to "
            f"{answer} bytes of chunks from this text; {MAX_ANSWER} are allowed."
        )


def _largest_answer(length: int, params: ChunkParams) -> int:
    """An estimate in bytes, which takes a token for a character: there are hardly more."""
    chunks = 1 + max(0, length - params.overlap) // (params.max_tokens - params.overlap)
    return chunks * (min(params.max_tokens, length) + _BYTES_PER_CHUNK)
