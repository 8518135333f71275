"""A built-in document index for tests: everything real but the embedding model."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from pharia_kernel.csi.types import (
    CallContext,
    Chunk,
    ChunkRequest,
    DocumentPath,
    IndexPath,
    SearchRequest,
    SearchResult,
)
from pharia_kernel.drivers.retrieval.local.embedding import Embedder, Kind
from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex
from pharia_kernel.drivers.retrieval.local.records import Put
from pharia_kernel.drivers.retrieval.local.types import (
    IndexConfig,
    NewDocument,
    SemanticEmbedding,
    TextItem,
)

DEADLINE = 30.0
SIZE = 64
MODEL = "words"
PATH = IndexPath("dev", "manuals", "default")
CONTEXT = CallContext()
BY_CHARACTERS = IndexConfig(
    chunk_size=40, chunk_unit="characters", embedding=SemanticEmbedding(MODEL)
)


class WordEmbedders:
    """Texts with the same words are similar. A test can hold it up, or have it fail."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.asked = asyncio.Event()
        self.error: Exception | None = None
        self.poison: str | None = None
        self.embedded: list[str] = []
        self.size = SIZE
        self.pause = 3600.0
        """Seconds after which what has failed is tried again."""

    def of(self, model: str) -> Embedder:
        return self

    async def embed(self, texts: list[str], kind: Kind) -> list[list[float]]:
        if kind == "document":
            self.asked.set()
            await self.may_go_on.wait()
            self.embedded += texts
        if self.error and (self.poison is None or any(self.poison in text for text in texts)):
            raise self.error
        return [self._vector(text) for text in texts]

    async def close(self) -> None:
        return

    def _vector(self, text: str) -> list[float]:
        vector = [0.01] * self.size
        for word in re.findall(r"\w+", text.casefold()):
            vector[zlib.crc32(word.encode()) % self.size] += 1.0
        return vector


class NoChunker:
    """The tests cut by characters."""

    async def chunk(self, request: ChunkRequest, context: CallContext) -> list[Chunk]:
        raise AssertionError("the index counts characters")


@asynccontextmanager
async def opened(directory: Path, embedders: WordEmbedders) -> AsyncIterator[LocalDocumentIndex]:
    index = LocalDocumentIndex(directory, embedders, NoChunker(), pause=lambda *_: embedders.pause)
    await index.start()
    try:
        yield index
    finally:
        await index.close()


async def prepare(index: LocalDocumentIndex, config: IndexConfig = BY_CHARACTERS) -> None:
    """A collection with an index."""
    await index.create_collection(PATH.namespace, PATH.collection)
    await index.create_index(PATH.namespace, PATH.index, config)
    await index.assign(PATH)


def path(name: str) -> DocumentPath:
    return DocumentPath(PATH.namespace, PATH.collection, name)


async def put(index: LocalDocumentIndex, name: str, *texts: str, metadata: Any = None) -> Put:
    document = NewDocument(
        contents=[TextItem(text) for text in texts], metadata=Raw(msgspec.json.encode(metadata))
    )
    return await index.put(path(name), document)


async def search(
    index: LocalDocumentIndex, query: str, max_results: int = 10, **more: Any
) -> list[SearchResult]:
    request = SearchRequest(index_path=PATH, query=query, max_results=max_results, **more)
    return await index.search(request, CONTEXT)


async def settled(index: LocalDocumentIndex) -> None:
    async with asyncio.timeout(DEADLINE):
        await index.indexed()
