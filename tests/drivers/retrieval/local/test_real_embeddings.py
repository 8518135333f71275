"""The whole way with a real embedding server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pharia_kernel.csi.types import DocumentPath, SearchRequest
from pharia_kernel.drivers.inference.credentials import ConfiguredToken
from pharia_kernel.drivers.retrieval.local.embedding import OpenAiEmbedders
from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex
from pharia_kernel.drivers.retrieval.local.types import (
    IndexConfig,
    NewDocument,
    SemanticEmbedding,
    TextItem,
)
from tests.drivers.retrieval.embedding_server import MODEL, TOKEN, running_embedding_server
from tests.drivers.retrieval.support import CONTEXT, DEADLINE, PATH, NoChunker, prepare


async def test_ingest_and_search(tmp_path: Path) -> None:
    texts = [f"Sentence number {number} is about {'cats' * number}." for number in range(12)]
    config = IndexConfig(
        chunk_size=200, chunk_unit="characters", embedding=SemanticEmbedding(MODEL, "symmetric")
    )
    async with running_embedding_server() as url:
        embedders = OpenAiEmbedders(url, ConfiguredToken(TOKEN), batch_size=5)
        index = LocalDocumentIndex(tmp_path, embedders, NoChunker())
        await index.start()
        try:
            await prepare(index, config)
            for number, text in enumerate(texts):
                path = DocumentPath("dev", "manuals", f"d{number}")
                await index.put(path, NewDocument(contents=[TextItem(text)]))
            async with asyncio.timeout(DEADLINE):
                await index.indexed()
            request = SearchRequest(index_path=PATH, query=texts[7], max_results=3)
            best, *others = await index.search(request, CONTEXT)
        finally:
            await index.close()
    assert (best.document_path.name, best.content) == ("d7", texts[7])
    assert best.score > 0.999
    assert len(others) == 2
