from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pharia_kernel.drivers.retrieval.local.index import LocalDocumentIndex
from tests.drivers.retrieval.support import WordEmbedders, opened


@pytest.fixture
def embedders() -> WordEmbedders:
    return WordEmbedders()


@pytest.fixture
async def index(tmp_path: Path, embedders: WordEmbedders) -> AsyncIterator[LocalDocumentIndex]:
    async with opened(tmp_path / "documents", embedders) as index:
        yield index
