"""The built-in document index: searching, and managing what is searched."""

from __future__ import annotations

import asyncio
import hashlib
import math
from pathlib import Path

import msgspec
from msgspec import Raw

from pharia_kernel.csi.types import (
    CallContext,
    Document,
    DocumentPath,
    ImageModality,
    IndexPath,
    SearchRequest,
    SearchResult,
    TextCursor,
    TextModality,
)
from pharia_kernel.drivers.retrieval.local import bm25, indexer
from pharia_kernel.drivers.retrieval.local.embedding import Embedders
from pharia_kernel.drivers.retrieval.local.filters import compile_filters
from pharia_kernel.drivers.retrieval.local.indexer import Indexer, Pause
from pharia_kernel.drivers.retrieval.local.records import Binding, Put, Seen
from pharia_kernel.drivers.retrieval.local.schema import State
from pharia_kernel.drivers.retrieval.local.sections import Chunker
from pharia_kernel.drivers.retrieval.local.store import Store
from pharia_kernel.drivers.retrieval.local.types import (
    DocumentInfo,
    ImageItem,
    IndexConfig,
    IndexStatus,
    NewDocument,
    StoredSection,
    TextItem,
)
from pharia_kernel.drivers.retrieval.local.vectors import (
    EmbeddedQdrant,
    Hit,
    QdrantServer,
    Query,
    Vectors,
)
from pharia_kernel.errors import BadUpstreamAnswer, InvalidCsiRequest, UpstreamTimeout

MAX_NAME_LENGTH = 1000
_MAX_ROUNDS = 8
_COUNTED_FROM = 1000
"""Results; for more, Qdrant is not asked to make room for what it does not have."""

_contents = msgspec.json.Decoder(list[TextItem | ImageItem])


class LocalDocumentIndex:
    """Implements ``RetrievalDriver``, and what the Document Index API can do beside it.

    What is missing is told with ``CollectionNotFound``, ``IndexNotFound``, ``DocumentNotFound``.
    """

    def __init__(
        self,
        directory: Path,
        embedders: Embedders,
        chunker: Chunker,
        *,
        qdrant: QdrantServer | None = None,
        pause: Pause = indexer.pause,
    ) -> None:
        """``directory`` is for this process alone; without ``qdrant`` the vectors are there too."""
        self._store = Store(directory / "documents.sqlite")
        self._vectors = Vectors(qdrant or EmbeddedQdrant(directory / "qdrant"))
        self._embedders = embedders
        self._indexer = Indexer(self._store, self._vectors, embedders, chunker, pause)

    async def start(self) -> None:
        """Open the files and go on with what is to be indexed. Raises ``OSError``."""
        await self._store.open()
        try:
            await self._vectors.open()
        except BaseException:
            await self._store.close()
            raise
        self._indexer.start()

    async def close(self) -> None:
        await self._indexer.close()
        await self._vectors.close()
        await self._store.close()
        await self._embedders.close()

    async def indexed(self) -> None:
        """Wait until all documents are indexed, except those whose indexing fails."""
        await self._indexer.idle()

    # --- the driver ---

    async def search(self, request: SearchRequest, context: CallContext) -> list[SearchResult]:
        """With a hybrid index, ``min_score`` holds for the similarity of meaning only, and the
        scores of results come from their ranks."""
        compiled = compile_filters(request.filters)
        binding = await self._store.binding(request.index_path)
        if binding.size is None or request.max_results <= 0:
            return []
        if not request.query.strip():
            raise InvalidCsiRequest("`query` must not be empty.")
        if request.min_score is not None and not math.isfinite(request.min_score):
            raise InvalidCsiRequest("`min_score` must be a finite number.")
        try:
            async with asyncio.timeout(context.remaining()):
                query = await self._query(binding, request)
                query = msgspec.structs.replace(query, filter=compiled)
                hits = await self._visible(binding, query, request.max_results)
        except TimeoutError:
            raise UpstreamTimeout("The search did not end in the time left for the call.") from None
        return [_result(section, score) for section, score in hits]

    async def document(self, path: DocumentPath, context: CallContext) -> Document:
        stored = await self._store.document(path)
        contents: list[TextModality | ImageModality] = [
            TextModality(item.text) if isinstance(item, TextItem) else ImageModality()
            for item in _contents.decode(stored.contents)
        ]
        return Document(path=path, contents=contents, metadata=_metadata(stored.metadata))

    async def document_metadata(self, path: DocumentPath, context: CallContext) -> Raw | None:
        return _metadata((await self._store.document(path)).metadata)

    # --- collections and indexes ---

    async def namespaces(self) -> list[str]:
        return await self._store.namespaces()

    async def collections(self, namespace: str) -> list[str]:
        return await self._store.collections(namespace)

    async def create_collection(self, namespace: str, name: str) -> bool:
        """Whether it is new."""
        _check_names(namespace=namespace, collection=name)
        return await self._store.create_collection(namespace, name)

    async def delete_collection(self, namespace: str, name: str) -> None:
        """With all its documents."""
        await self._store.delete_collection(namespace, name)
        self._indexer.wake()

    async def progress(self, namespace: str, name: str) -> int:
        """The number of documents that are not yet in all indexes of the collection."""
        return await self._store.progress(namespace, name)

    async def indexes(self, namespace: str) -> list[str]:
        return await self._store.indexes(namespace)

    async def index(self, namespace: str, name: str) -> IndexConfig:
        return await self._store.index(namespace, name)

    async def create_index(self, namespace: str, name: str, config: IndexConfig) -> bool:
        """Whether it is new. Raises ``Conflict`` if there is one with another configuration."""
        _check_names(namespace=namespace, index=name)
        self._embedders.of(config.embedding.model_name)
        return await self._store.create_index(namespace, name, config)

    async def delete_index(self, namespace: str, name: str) -> None:
        """Raises ``Conflict`` while a collection has it."""
        await self._store.delete_index(namespace, name)

    async def assigned(self, namespace: str, collection: str) -> list[str]:
        return await self._store.assigned(namespace, collection)

    async def assign(self, path: IndexPath) -> bool:
        """Whether it was not before."""
        new = await self._store.assign(path)
        self._indexer.wake()
        return new

    async def unassign(self, path: IndexPath) -> None:
        await self._store.unassign(path)
        self._indexer.wake()

    async def status(self, path: IndexPath) -> IndexStatus:
        return await self._store.status(path)

    # --- documents ---

    async def put(self, path: DocumentPath, document: NewDocument) -> Put:
        """Store a document; it is safe when this returns, and will be indexed.

        Until then, searches find its previous version. The same content again changes nothing.
        """
        _check_names(namespace=path.namespace, collection=path.collection, name=path.name)
        contents, metadata, digest = await asyncio.to_thread(_encoded, document)
        put = await self._store.put_document(path, contents, metadata, digest)
        if put.changed:
            self._indexer.wake()
        return put

    async def stored(self, path: DocumentPath) -> NewDocument:
        """As it was put."""
        found = await self._store.document(path)
        return NewDocument(contents=_contents.decode(found.contents), metadata=Raw(found.metadata))

    async def delete(self, path: DocumentPath) -> None:
        """No search finds it any more when this returns."""
        await self._store.delete_document(path)
        self._indexer.wake()

    async def documents(
        self, namespace: str, collection: str, *, starts_with: str = "", limit: int
    ) -> list[DocumentInfo]:
        """In the order of their names."""
        return await self._store.documents(
            namespace, collection, starts_with=starts_with, limit=limit
        )

    async def sections(self, path: DocumentPath, index: str) -> list[StoredSection]:
        """Those of a document that can be found, in order."""
        return await self._store.sections(path, index)

    # --- searching ---

    async def _query(self, binding: Binding, request: SearchRequest) -> Query:
        vectors = await indexer.embed(self._embedders, binding.config, [request.query], "query")
        if len(vectors[0]) != binding.size:
            raise BadUpstreamAnswer(
                f"The embedding model `{binding.config.embedding.model_name}` makes vectors of "
                f"{len(vectors[0])} numbers, but the index holds ones of {binding.size}."
            )
        hybrid = binding.config.hybrid_index is not None
        return Query(
            vector=vectors[0],
            keywords=bm25.of_query(request.query) if hybrid else None,
            filter=None,
            min_score=request.min_score,
        )

    async def _visible(
        self, binding: Binding, query: Query, wanted: int
    ) -> list[tuple[StoredSection, float]]:
        """The best hits among the visible versions.

        Qdrant may hold versions that are not visible yet or not any more. What was superseded
        while it searched is searched again; where others take up room, more is asked for.
        """
        if wanted > _COUNTED_FROM:
            wanted = max(1, min(wanted, await self._store.section_count(binding.id)))
        limit = wanted
        visible: list[tuple[StoredSection, float]] = []
        known_dead: set[int] = set()
        for _ in range(_MAX_ROUNDS):
            hits = await self._vectors.search(binding.vectors, query, limit)
            seen = await self._store.look_up([hit.id for hit in hits])
            visible = [(seen[hit.id].section, hit.score) for hit in hits if _is_visible(seen, hit)]
            dead = {hit.id for hit in hits if _is_dead(seen, hit)}
            short = len(visible) < wanted and len(hits) >= limit
            if not short and dead <= known_dead:
                break
            known_dead |= dead
            limit = 4 * limit if short else limit
        return visible[:wanted]


def _is_visible(seen: dict[int, Seen], hit: Hit) -> bool:
    return hit.id in seen and seen[hit.id].state is State.VISIBLE


def _is_dead(seen: dict[int, Seen], hit: Hit) -> bool:
    return hit.id not in seen or seen[hit.id].state is State.DEAD


def _result(found: StoredSection, score: float) -> SearchResult:
    section = found.section
    return SearchResult(
        document_path=found.path,
        content=section.text,
        score=score,
        start=TextCursor(section.item, section.start),
        end=TextCursor(section.item, section.end),
    )


def _metadata(stored: bytes) -> Raw | None:
    return None if stored == b"null" else Raw(stored)


def _encoded(document: NewDocument) -> tuple[bytes, bytes, bytes]:
    """Contents, metadata, and a digest of both that does not depend on how they were written."""
    contents = msgspec.json.encode(document.contents)
    try:
        value = msgspec.json.decode(document.metadata)
        metadata = msgspec.json.encode(value)
        ordered = msgspec.json.encode(value, order="deterministic")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidCsiRequest(f"`metadata` is not valid JSON: {error}.") from None
    digest = hashlib.sha256(len(contents).to_bytes(8) + contents + ordered).digest()
    return contents, metadata, digest


def _check_names(**names: str) -> None:
    for what, name in names.items():
        if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise InvalidCsiRequest(
                f"`{what}` must have 1 to {MAX_NAME_LENGTH} printable characters."
            )
