"""The vectors in Qdrant: embedded in this process with its files on disk, or on a server."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
from msgspec import Struct
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from pharia_kernel.drivers.retrieval.local.bm25 import SparseVector
from pharia_kernel.errors import DocumentStorageFailed, UpstreamUnavailable

log = logging.getLogger("pharia_kernel.retrieval")

T = TypeVar("T")

_DENSE, _SPARSE = "dense", "bm25"
_SERVER_THREADS = 8
_SERVER_SECONDS = 30
_UPSERT_AT_ONCE = 64
"""Points; a search waits for at most one such step in embedded mode."""
_DELETE_AT_ONCE = 1000
_FUSED_DEPTH = 50
"""Ranks of each kind that are fused at least, however few results are wanted."""


class EmbeddedQdrant(Struct, frozen=True):
    path: Path
    """Directory, for this process alone."""


class QdrantServer(Struct, frozen=True):
    url: str
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"QdrantServer({self.url!r})"


class Point(Struct, frozen=True):
    id: int
    vector: list[float]
    keywords: SparseVector | None
    """Exactly for hybrid collections."""
    payload: dict[str, Any]


class Hit(Struct, frozen=True):
    id: int
    score: float


class Query(Struct, frozen=True):
    vector: list[float]
    keywords: SparseVector | None
    """For hybrid collections: ranks by keywords are fused with those by meaning."""
    filter: models.Filter | None
    min_score: float | None
    """Cosine similarity that what is found by its meaning must have."""


class Vectors:
    """Collections of points. All work happens in threads of its own."""

    def __init__(self, place: EmbeddedQdrant | QdrantServer) -> None:
        self._place = place
        # The embedded mode is not thread-safe.
        threads = 1 if isinstance(place, EmbeddedQdrant) else _SERVER_THREADS
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="qdrant")
        self._client: QdrantClient | None = None

    async def open(self) -> None:
        """Embedded: read all vectors from disk. Raises ``OSError`` if the directory can't be
        used."""
        loop = asyncio.get_running_loop()
        try:
            self._client = await loop.run_in_executor(self._threads, _connect, self._place)
        except (RuntimeError, ValueError, sqlite3.Error) as error:
            raise OSError(
                f"the vectors can't be opened: {error} (they are made anew if they are deleted)"
            ) from error

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await asyncio.get_running_loop().run_in_executor(self._threads, client.close)
        self._threads.shutdown(wait=False)

    async def count(self, name: str) -> int:
        """The number of points; 0 if there is no such collection."""
        return await self._run(lambda client: _count(client, name))

    async def create(self, name: str, size: int, *, hybrid: bool) -> None:
        """A collection for vectors of ``size`` numbers."""
        await self._run(lambda client: _create(client, name, size, hybrid))

    async def drop(self, name: str) -> None:
        """Nothing happens if there is no such collection."""
        await self._run(lambda client: client.delete_collection(name))

    async def put(self, name: str, points: list[Point]) -> None:
        """Returns when the points are stored."""
        for start in range(0, len(points), _UPSERT_AT_ONCE):
            some = points[start : start + _UPSERT_AT_ONCE]
            await self._run(partial(_put, name=name, points=some))

    async def delete(self, name: str, ids: list[int]) -> None:
        """Returns when the points are gone."""
        for start in range(0, len(ids), _DELETE_AT_ONCE):
            some = ids[start : start + _DELETE_AT_ONCE]
            await self._run(partial(_delete, name=name, ids=some))

    async def search(self, name: str, query: Query, limit: int) -> list[Hit]:
        """The best ``limit`` points, in order of falling scores."""
        return await self._run(lambda client: _search(client, name, query, limit))

    async def _run(self, work: Callable[[QdrantClient], T]) -> T:
        client = self._client
        if client is None:
            raise UpstreamUnavailable("The document index is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, client)
        # The embedded mode raises ValueError where a server answers with an error.
        except (ApiException, UnexpectedResponse, httpx.HTTPError, ValueError) as error:
            log.warning("Qdrant failed: %r", error)
            raise UpstreamUnavailable(
                "The vector database does not answer as it should."
            ) from error
        except OSError as error:
            log.warning("Embedded Qdrant failed: %r", error)
            raise DocumentStorageFailed("The vectors can't be read or written.") from error


def _connect(place: EmbeddedQdrant | QdrantServer) -> QdrantClient:
    if isinstance(place, QdrantServer):
        return QdrantClient(
            url=place.url,
            api_key=place.api_key,
            timeout=_SERVER_SECONDS,
            check_compatibility=False,
            trust_env=False,
        )
    place.path.mkdir(parents=True, exist_ok=True)
    # The size from which a server is better is documented; a warning would name foreign code.
    warnings.filterwarnings("ignore", message="Local mode is not recommended")
    warnings.filterwarnings("ignore", message="Payload indexes have no effect")
    client = QdrantClient(path=str(place.path), force_disable_check_same_thread=True)
    _commit_without_waiting(client)
    return client


def _commit_without_waiting(client: QdrantClient) -> None:
    """Spare embedded Qdrant an ``fsync`` per point, which would be most of the work of indexing.

    A power failure may then cost the last points, though not the consistency of the file. That is
    noticed at the next start by their number, and they are made anew. There is no public way to
    do this: should the names change, indexing is only slower.
    """
    collections = getattr(getattr(client, "_client", None), "collections", {})
    for collection in collections.values():
        connection = getattr(getattr(collection, "storage", None), "storage", None)
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")


def _count(client: QdrantClient, name: str) -> int:
    return client.count(name, exact=True).count if client.collection_exists(name) else 0


def _create(client: QdrantClient, name: str, size: int, hybrid: bool) -> None:
    if client.collection_exists(name):
        return
    keywords = {_SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)}
    client.create_collection(
        name,
        vectors_config={_DENSE: models.VectorParams(size=size, distance=models.Distance.COSINE)},
        sparse_vectors_config=keywords if hybrid else None,
    )
    _commit_without_waiting(client)


def _put(client: QdrantClient, name: str, points: list[Point]) -> None:
    client.upsert(name, [_point(point) for point in points], wait=True)


def _delete(client: QdrantClient, name: str, ids: list[int]) -> None:
    if client.collection_exists(name):
        client.delete(name, models.PointIdsList(points=list(ids)), wait=True)


def _point(point: Point) -> models.PointStruct:
    vector: dict[str, Any] = {_DENSE: point.vector}
    if point.keywords is not None:
        vector[_SPARSE] = _sparse(point.keywords)
    return models.PointStruct(id=point.id, vector=vector, payload=point.payload)


def _search(client: QdrantClient, name: str, query: Query, limit: int) -> list[Hit]:
    if query.keywords is None:
        found = client.query_points(
            name,
            query=query.vector,
            using=_DENSE,
            query_filter=query.filter,
            score_threshold=query.min_score,
            limit=limit,
            with_payload=False,
        )
    else:
        depth = max(limit, _FUSED_DEPTH)
        found = client.query_points(
            name,
            prefetch=[
                models.Prefetch(
                    query=query.vector,
                    using=_DENSE,
                    filter=query.filter,
                    score_threshold=query.min_score,
                    limit=depth,
                ),
                models.Prefetch(
                    query=_sparse(query.keywords), using=_SPARSE, filter=query.filter, limit=depth
                ),
            ],
            query=models.FusionQuery(fusion=models.Fusion.RRF),
            limit=limit,
            with_payload=False,
        )
    return [Hit(int(point.id), point.score) for point in found.points]


def _sparse(vector: SparseVector) -> models.SparseVector:
    return models.SparseVector(indices=vector.indices, values=vector.values)
