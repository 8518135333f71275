"""The interface of retrieval drivers."""

from __future__ import annotations

from typing import Protocol

from msgspec import Raw

from pharia_kernel.csi.types import (
    CallContext,
    Document,
    DocumentPath,
    SearchRequest,
    SearchResult,
)


class RetrievalDriver(Protocol):
    """Every method raises a ``CsiError``; cancelling a call ends what it does upstream."""

    async def search(self, request: SearchRequest, context: CallContext) -> list[SearchResult]:
        """Sections of documents, the best first. Scores are higher for better ones.

        Raises ``IndexNotFound`` if there is no such collection, or it does not have the index.
        """
        ...

    async def document(self, path: DocumentPath, context: CallContext) -> Document:
        """Raises ``DocumentNotFound``."""
        ...

    async def document_metadata(self, path: DocumentPath, context: CallContext) -> Raw | None:
        """None if the document has no metadata; raises ``DocumentNotFound``."""
        ...

    async def close(self) -> None: ...
