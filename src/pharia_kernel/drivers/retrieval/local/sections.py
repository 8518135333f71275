"""Cuts documents into the sections that are embedded."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
from semantic_text_splitter import TextSplitter

from pharia_kernel.csi.types import CallContext, Chunk, ChunkParams, ChunkRequest
from pharia_kernel.drivers.retrieval.local.types import ImageItem, IndexConfig, Section, TextItem

_NOBODY = CallContext()
"""Indexing happens after the caller is gone."""
_contents = msgspec.json.Decoder(list[TextItem | ImageItem])


class Chunker(Protocol):
    async def chunk(self, request: ChunkRequest, context: CallContext) -> list[Chunk]:
        """Chunks with the offsets that were asked for."""
        ...


async def cut(contents: bytes, config: IndexConfig, chunker: Chunker) -> list[Section]:
    """The sections of all text items, in order; ``contents`` is the JSON list of the items."""
    sections: list[Section] = []
    for number, item in enumerate(_contents.decode(contents)):
        if isinstance(item, TextItem):
            sections += [
                Section(item=number, start=start, end=start + len(text) - 1, text=text)
                for start, text in await _pieces(item.text, config, chunker)
            ]
    return sections


async def _pieces(text: str, config: IndexConfig, chunker: Chunker) -> list[tuple[int, str]]:
    """Pieces with the offsets of their first characters."""
    if config.chunk_unit == "characters":
        splitter = TextSplitter(config.chunk_size, config.chunk_overlap)
        return await asyncio.to_thread(splitter.chunk_indices, text)
    params = ChunkParams(config.embedding.model_name, config.chunk_size, config.chunk_overlap)
    chunks = await chunker.chunk(ChunkRequest(text, params, character_offsets=True), _NOBODY)
    return [(chunk.character_offset or 0, chunk.text) for chunk in chunks]
