"""Documents, indexes, and how far the one is in the other: the truth about the document index.

Each time that a version of a document is indexed, its sections form a *generation*. A generation is
being built, then visible, then dead. Making one visible and its predecessor dead is one
transaction, so there is never a mixture of two versions to be seen. The ids of sections are those
of the points in Qdrant and are never used twice.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from pharia_kernel.csi.types import DocumentPath, IndexPath
from pharia_kernel.drivers.retrieval.local import transactions as parts
from pharia_kernel.drivers.retrieval.local.database import Database
from pharia_kernel.drivers.retrieval.local.records import (
    Binding,
    Built,
    Garbage,
    Job,
    Put,
    Seen,
    StoredDocument,
)
from pharia_kernel.drivers.retrieval.local.schema import SCHEMA, State
from pharia_kernel.drivers.retrieval.local.types import (
    DocumentInfo,
    IndexConfig,
    IndexStatus,
    Section,
    StoredSection,
)
from pharia_kernel.errors import Conflict, DocumentNotFound

T = TypeVar("T")


class Store:
    """Methods raise ``CollectionNotFound``, ``IndexNotFound``, ``DocumentNotFound`` for what is
    not there, and ``DocumentStorageFailed``."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._database = Database(path)
        self._clock = clock
        self._write = self._database.write
        self._read = self._database.read

    async def open(self) -> None:
        """Also gives up what a crash has left half built; its jobs are still there. Raises
        ``OSError``."""
        await self._database.open(SCHEMA)
        await self._write(
            lambda db: db.execute(
                "UPDATE generations SET state = ? WHERE state = ?", (State.DEAD, State.BUILDING)
            )
        )

    async def close(self) -> None:
        await self._database.close()

    # --- collections ---

    async def namespaces(self) -> list[str]:
        query = "SELECT namespace FROM collections UNION SELECT namespace FROM indexes ORDER BY 1"
        return await self._read(lambda db: parts.first_column(db.execute(query)))

    async def collections(self, namespace: str) -> list[str]:
        query = "SELECT name FROM collections WHERE namespace = ? ORDER BY name"
        return await self._read(lambda db: parts.first_column(db.execute(query, (namespace,))))

    async def create_collection(self, namespace: str, name: str) -> bool:
        """Whether it is new."""
        query = "INSERT OR IGNORE INTO collections (namespace, name) VALUES (?, ?)"
        return await self._write(lambda db: db.execute(query, (namespace, name)).rowcount > 0)

    async def delete_collection(self, namespace: str, name: str) -> None:
        def work(db: sqlite3.Connection) -> None:
            collection = parts.collection_id(db, namespace, name)
            parts.drop_vectors(db, "collection = ?", collection)
            db.execute("DELETE FROM collections WHERE id = ?", (collection,))

        await self._write(work)

    async def progress(self, namespace: str, name: str) -> int:
        """The number of documents that are not yet in all indexes of the collection."""

        def work(db: sqlite3.Connection) -> int:
            query = (
                "SELECT count(DISTINCT document) FROM jobs JOIN bindings "
                "ON bindings.id = jobs.binding WHERE collection = ?"
            )
            return parts.one_number(db.execute(query, (parts.collection_id(db, namespace, name),)))

        return await self._read(work)

    # --- indexes ---

    async def indexes(self, namespace: str) -> list[str]:
        query = "SELECT name FROM indexes WHERE namespace = ? ORDER BY name"
        return await self._read(lambda db: parts.first_column(db.execute(query, (namespace,))))

    async def index(self, namespace: str, name: str) -> IndexConfig:
        return await self._read(
            lambda db: parts.decode_config(parts.index_row(db, namespace, name)[1])
        )

    async def create_index(self, namespace: str, name: str, config: IndexConfig) -> bool:
        """Whether it is new. Raises ``Conflict`` if there is one with another configuration."""

        def work(db: sqlite3.Connection) -> bool:
            query = "INSERT OR IGNORE INTO indexes (namespace, name, config) VALUES (?, ?, ?)"
            encoded = msgspec.json.encode(config)
            if db.execute(query, (namespace, name, encoded)).rowcount:
                return True
            if parts.decode_config(parts.index_row(db, namespace, name)[1]) != config:
                raise Conflict(
                    f"Index `{namespace}/{name}` exists with another configuration, which can't "
                    "be changed: delete it first, or choose another name."
                )
            return False

        return await self._write(work)

    async def delete_index(self, namespace: str, name: str) -> None:
        """Raises ``Conflict`` while a collection has it."""

        def work(db: sqlite3.Connection) -> None:
            index = parts.index_row(db, namespace, name)[0]
            query = (
                "SELECT name FROM collections JOIN bindings ON collections.id = collection "
                'WHERE "index" = ? ORDER BY name LIMIT 1'
            )
            if users := parts.first_column(db.execute(query, (index,))):
                raise Conflict(
                    f"Index `{namespace}/{name}` is assigned to collection `{users[0]}`: "
                    "take it off all collections before deleting it."
                )
            db.execute("DELETE FROM indexes WHERE id = ?", (index,))

        await self._write(work)

    # --- indexes of collections ---

    async def assigned(self, namespace: str, collection: str) -> list[str]:
        def work(db: sqlite3.Connection) -> list[str]:
            query = (
                'SELECT name FROM indexes JOIN bindings ON indexes.id = "index" '
                "WHERE collection = ? ORDER BY name"
            )
            return parts.first_column(
                db.execute(query, (parts.collection_id(db, namespace, collection),))
            )

        return await self._read(work)

    async def assign(self, path: IndexPath) -> bool:
        """Whether it was not before; then all documents are to be indexed."""

        def work(db: sqlite3.Connection) -> bool:
            collection = parts.collection_id(db, path.namespace, path.collection)
            index = parts.index_row(db, path.namespace, path.index)[0]
            query = 'INSERT OR IGNORE INTO bindings (collection, "index", vectors) VALUES (?, ?, ?)'
            if not db.execute(query, (collection, index, parts.new_name())).rowcount:
                return False
            parts.enqueue_all(db, parts.one_row(db.execute("SELECT last_insert_rowid()"))[0])
            return True

        return await self._write(work)

    async def unassign(self, path: IndexPath) -> None:
        def work(db: sqlite3.Connection) -> None:
            binding = parts.find_binding(db, path)
            parts.drop_vectors(db, "id = ?", binding.id)
            db.execute("DELETE FROM bindings WHERE id = ?", (binding.id,))

        await self._write(work)

    async def binding(self, path: IndexPath) -> Binding:
        return await self._read(lambda db: parts.find_binding(db, path))

    async def bindings(self) -> list[Binding]:
        query = parts.BINDINGS
        return await self._read(lambda db: [parts.to_binding(row) for row in db.execute(query)])

    async def set_size(self, binding: int, size: int) -> None:
        query = "UPDATE bindings SET size = ? WHERE id = ?"
        await self._write(lambda db: db.execute(query, (size, binding)))

    async def start_over(self, binding: int) -> None:
        """Forget what was indexed: everything is to be indexed again."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM generations WHERE binding = ?", (binding,))
            db.execute("UPDATE bindings SET size = NULL WHERE id = ?", (binding,))
            parts.enqueue_all(db, binding)

        await self._write(work)

    async def status(self, path: IndexPath) -> IndexStatus:
        def work(db: sqlite3.Connection) -> IndexStatus:
            binding = parts.find_binding(db, path).id
            documents = (
                "SELECT count(*) FROM documents WHERE collection = "
                "(SELECT collection FROM bindings WHERE id = ?)"
            )
            pending, failing, error = parts.one_row(
                db.execute(
                    "SELECT count(*), count(nullif(failures, 0)), max(error) FROM jobs "
                    "WHERE binding = ?",
                    (binding,),
                )
            )
            return IndexStatus(
                documents=parts.one_number(db.execute(documents, (binding,))),
                pending=pending,
                failing=failing,
                sections=parts.visible_count(db, binding),
                last_error=error,
            )

        return await self._read(work)

    async def section_count(self, binding: int) -> int:
        """Points in Qdrant at most, whatever their state."""
        query = (
            "SELECT count(*) FROM sections JOIN generations ON generations.id = generation "
            "WHERE binding = ?"
        )
        return await self._read(lambda db: parts.one_number(db.execute(query, (binding,))))

    async def visible_count(self, binding: int) -> int:
        """Points that Qdrant must have."""
        return await self._read(lambda db: parts.visible_count(db, binding))

    # --- documents ---

    async def put_document(
        self, path: DocumentPath, contents: bytes, metadata: bytes, digest: bytes
    ) -> Put:
        """Store it and have it indexed; nothing happens if the digest is that of the stored one."""

        def work(db: sqlite3.Connection) -> Put:
            collection = parts.collection_id(db, path.namespace, path.collection)
            query = "SELECT version, digest FROM documents WHERE collection = ? AND name = ?"
            known = db.execute(query, (collection, path.name)).fetchone()
            if known and known[1] == digest:
                return Put(known[0], changed=False)
            version = known[0] + 1 if known else 1
            row = (collection, path.name, version, digest, self._clock(), metadata, contents)
            document = parts.one_row(
                db.execute(
                    "INSERT INTO documents "
                    "(collection, name, version, digest, created, metadata, contents) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, name) DO UPDATE SET "
                    "version = excluded.version, digest = excluded.digest, "
                    "created = excluded.created, metadata = excluded.metadata, "
                    "contents = excluded.contents RETURNING id",
                    row,
                )
            )[0]
            db.execute(
                "INSERT OR REPLACE INTO jobs (binding, document) "
                "SELECT id, ? FROM bindings WHERE collection = ?",
                (document, collection),
            )
            return Put(version, changed=True)

        return await self._write(work)

    async def document(self, path: DocumentPath) -> StoredDocument:
        def work(db: sqlite3.Connection) -> StoredDocument:
            query = "SELECT contents, metadata FROM documents WHERE id = ?"
            return StoredDocument(*parts.one_row(db.execute(query, (parts.document_id(db, path),))))

        return await self._read(work)

    async def delete_document(self, path: DocumentPath) -> None:
        def work(db: sqlite3.Connection) -> None:
            document = parts.document_id(db, path)
            db.execute(
                "UPDATE generations SET state = ? WHERE document = ?", (State.DEAD, document)
            )
            db.execute("DELETE FROM documents WHERE id = ?", (document,))

        await self._write(work)

    async def documents(
        self, namespace: str, collection: str, *, starts_with: str, limit: int
    ) -> list[DocumentInfo]:
        """In the order of their names."""

        def work(db: sqlite3.Connection) -> list[DocumentInfo]:
            rows = db.execute(
                "SELECT name, created, version FROM documents "
                "WHERE collection = ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
                (
                    parts.collection_id(db, namespace, collection),
                    len(starts_with),
                    starts_with,
                    limit,
                ),
            )
            return [
                DocumentInfo(
                    DocumentPath(namespace, collection, name), parts.timestamp(created), version
                )
                for name, created, version in rows
            ]

        return await self._read(work)

    async def sections(self, path: DocumentPath, index: str) -> list[StoredSection]:
        """Those that can be found. Raises ``DocumentNotFound`` if it is not indexed yet."""

        def work(db: sqlite3.Connection) -> list[StoredSection]:
            binding = parts.find_binding(db, IndexPath(path.namespace, path.collection, index))
            query = "SELECT id FROM generations WHERE binding = ? AND document = ? AND state = ?"
            key = (binding.id, parts.document_id(db, path), State.VISIBLE)
            generations = parts.first_column(db.execute(query, key))
            if not generations:
                raise DocumentNotFound(
                    f"Document `{path.name}` is not in index `{index}` yet: it is being indexed."
                )
            query = "SELECT item, first, last, text FROM sections WHERE generation = ? ORDER BY id"
            rows = db.execute(query, (generations[0],))
            return [StoredSection(path, Section(*row)) for row in rows]

        return await self._read(work)

    # --- searching ---

    async def look_up(self, ids: list[int]) -> dict[int, Seen]:
        """What the ids stand for at one point in time; those that are gone are missing."""

        def work(db: sqlite3.Connection) -> dict[int, Seen]:
            rows = db.execute(
                "SELECT sections.id, state, collections.namespace, collections.name, "
                "documents.name, item, first, last, text FROM sections "
                "JOIN generations ON generations.id = generation "
                "JOIN documents ON documents.id = document "
                "JOIN collections ON collections.id = documents.collection "
                "WHERE sections.id IN (SELECT value FROM json_each(?))",
                (msgspec.json.encode(ids).decode(),),
            )
            return {
                id: Seen(State(state), StoredSection(DocumentPath(*path), Section(*section)))
                for id, state, *rest in rows
                for path, section in ((rest[:3], rest[3:]),)
            }

        return await self._read(work)

    # --- indexing ---

    async def due_bindings(self) -> list[int]:
        query = "SELECT DISTINCT binding FROM jobs WHERE not_before <= ?"
        return await self._read(lambda db: parts.first_column(db.execute(query, (self._clock(),))))

    async def next_due(self) -> float | None:
        """Seconds until a job is due that is not yet; none if there is none."""
        query = "SELECT min(not_before) FROM jobs WHERE not_before > ?"

        def work(db: sqlite3.Connection) -> float | None:
            now = self._clock()
            at = parts.one_row(db.execute(query, (now,)))[0]
            return None if at is None else max(0.0, at - now)

        return await self._read(work)

    async def due_jobs(self, binding: int, *, limit: int, size: int) -> list[Job]:
        """The longest-waiting ones: at least one, of together at most ``size`` bytes otherwise."""

        def work(db: sqlite3.Connection) -> list[Job]:
            rows = db.execute(
                "SELECT binding, document, version, failures, name, contents, metadata "
                "FROM jobs JOIN documents ON documents.id = document "
                "WHERE binding = ? AND not_before <= ? ORDER BY jobs.id LIMIT ?",
                (binding, self._clock(), limit),
            )
            jobs: list[Job] = []
            total = 0
            for row in rows:
                job = Job(*row)
                total += len(job.contents)
                if jobs and total > size:
                    break
                jobs.append(job)
            return jobs

        return await self._read(work)

    async def binding_by_id(self, id: int) -> Binding | None:
        def work(db: sqlite3.Connection) -> Binding | None:
            row = db.execute(f"{parts.BINDINGS} WHERE bindings.id = ?", (id,)).fetchone()
            return parts.to_binding(row) if row else None

        return await self._read(work)

    async def begin(self, built: list[tuple[Job, list[Section]]]) -> list[Built]:
        """Store the sections, invisible as yet. None if their binding is gone."""

        def work(db: sqlite3.Connection) -> list[Built]:
            return [
                parts.begin_generation(db, job, sections)
                for job, sections in built
                if parts.is_bound(db, job)
            ]

        return await self._write(work)

    async def finish(self, built: list[Built]) -> None:
        """The points of all sections are in Qdrant: swap the versions.

        What was changed or deleted in the meantime does not become visible.
        """

        def work(db: sqlite3.Connection) -> None:
            for each in built:
                parts.finish_generation(db, each)

        await self._write(work)

    async def abandon(self, built: list[Built]) -> None:
        """The points could not be stored."""
        await self._write(
            lambda db: parts.set_state(db, State.DEAD, [each.generation for each in built])
        )

    async def postpone(self, job: Job, seconds: float, error: str) -> None:
        """It failed. A newer version's job is left as it is."""
        query = (
            "UPDATE jobs SET failures = failures + 1, not_before = ?, error = ? "
            "WHERE binding = ? AND document = ? "
            "AND ? = (SELECT version FROM documents WHERE id = document)"
        )
        key = (job.binding, job.document, job.version)
        await self._write(lambda db: db.execute(query, (self._clock() + seconds, error, *key)))

    # --- clearing up ---

    async def garbage(self, limit: int) -> Garbage | None:
        """Up to ``limit`` dead generations of one binding."""

        def work(db: sqlite3.Connection) -> Garbage | None:
            rows = db.execute(
                "SELECT generations.id, vectors FROM generations "
                "JOIN bindings ON bindings.id = binding WHERE state = 2 ORDER BY 1 LIMIT ?",
                (limit,),
            ).fetchall()
            if not rows:
                return None
            vectors = rows[0][1]
            generations = [id for id, name in rows if name == vectors]
            query = "SELECT id FROM sections WHERE generation IN (SELECT value FROM json_each(?))"
            ids = parts.first_column(
                db.execute(query, (msgspec.json.encode(generations).decode(),))
            )
            return Garbage(vectors, generations, ids)

        return await self._read(work)

    async def forget(self, garbage: Garbage) -> None:
        """Its points are gone."""
        query = "DELETE FROM generations WHERE id = ?"
        keys = [(id,) for id in garbage.generations]
        await self._write(lambda db: db.executemany(query, keys))

    async def dropped_vectors(self) -> list[str]:
        return await self._read(
            lambda db: parts.first_column(db.execute("SELECT name FROM dropped_vectors"))
        )

    async def forget_dropped(self, name: str) -> None:
        query = "DELETE FROM dropped_vectors WHERE name = ?"
        await self._write(lambda db: db.execute(query, (name,)))
