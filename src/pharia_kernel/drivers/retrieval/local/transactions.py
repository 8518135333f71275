"""Parts of the store's transactions: queries that several of them need."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from pharia_kernel.csi.types import DocumentPath, IndexPath
from pharia_kernel.drivers.retrieval.local.records import Binding, Built, Job
from pharia_kernel.drivers.retrieval.local.schema import State
from pharia_kernel.drivers.retrieval.local.types import IndexConfig, Section
from pharia_kernel.errors import CollectionNotFound, DocumentNotFound, IndexNotFound

BINDINGS = (
    'SELECT bindings.id, config, vectors, size FROM bindings JOIN indexes ON indexes.id = "index"'
)


def visible_count(db: sqlite3.Connection, binding: int) -> int:
    query = (
        "SELECT count(*) FROM sections JOIN generations ON generations.id = generation "
        "WHERE binding = ? AND state = ?"
    )
    return one_number(db.execute(query, (binding, State.VISIBLE)))


def collection_id(db: sqlite3.Connection, namespace: str, name: str) -> int:
    query = "SELECT id FROM collections WHERE namespace = ? AND name = ?"
    row = db.execute(query, (namespace, name)).fetchone()
    if row is None:
        raise CollectionNotFound(f"There is no collection `{namespace}/{name}`.")
    return int(row[0])


def index_row(db: sqlite3.Connection, namespace: str, name: str) -> tuple[int, bytes]:
    query = "SELECT id, config FROM indexes WHERE namespace = ? AND name = ?"
    row = db.execute(query, (namespace, name)).fetchone()
    if row is None:
        raise IndexNotFound(f"There is no index `{namespace}/{name}`.")
    return row[0], row[1]


def document_id(db: sqlite3.Connection, path: DocumentPath) -> int:
    query = (
        "SELECT documents.id FROM documents JOIN collections ON collections.id = collection "
        "WHERE namespace = ? AND collections.name = ? AND documents.name = ?"
    )
    row = db.execute(query, (path.namespace, path.collection, path.name)).fetchone()
    if row is None:
        raise DocumentNotFound(
            f"There is no document `{path.name}` in collection "
            f"`{path.namespace}/{path.collection}`."
        )
    return int(row[0])


def find_binding(db: sqlite3.Connection, path: IndexPath) -> Binding:
    collection = collection_id(db, path.namespace, path.collection)
    query = f"{BINDINGS} WHERE collection = ? AND namespace = ? AND name = ?"
    row = db.execute(query, (collection, path.namespace, path.index)).fetchone()
    if row is None:
        raise IndexNotFound(
            f"Collection `{path.namespace}/{path.collection}` has no index `{path.index}`."
        )
    return to_binding(row)


def to_binding(row: tuple[Any, ...]) -> Binding:
    id, config, vectors, size = row
    return Binding(id, decode_config(config), vectors, size)


def decode_config(encoded: bytes) -> IndexConfig:
    return msgspec.json.decode(encoded, type=IndexConfig)


def enqueue_all(db: sqlite3.Connection, binding: int) -> None:
    db.execute(
        "INSERT OR REPLACE INTO jobs (binding, document) SELECT bindings.id, documents.id "
        "FROM bindings JOIN documents ON documents.collection = bindings.collection "
        "WHERE bindings.id = ? ORDER BY documents.id",
        (binding,),
    )


def drop_vectors(db: sqlite3.Connection, which: str, value: int) -> None:
    query = f"INSERT INTO dropped_vectors SELECT vectors FROM bindings WHERE {which}"  # noqa: S608
    db.execute(query, (value,))


def is_bound(db: sqlite3.Connection, job: Job) -> bool:
    query = "SELECT 1 FROM bindings WHERE id = ?"
    return db.execute(query, (job.binding,)).fetchone() is not None


def begin_generation(db: sqlite3.Connection, job: Job, sections: list[Section]) -> Built:
    query = "INSERT INTO generations (binding, document, state) VALUES (?, ?, ?) RETURNING id"
    generation = one_row(db.execute(query, (job.binding, job.document, State.BUILDING)))[0]
    query = (
        "INSERT INTO sections (generation, item, first, last, text) "
        "VALUES (?, ?, ?, ?, ?) RETURNING id"
    )
    ids = [
        one_row(db.execute(query, (generation, part.item, part.start, part.end, part.text)))[0]
        for part in sections
    ]
    return Built(job, generation, ids)


def finish_generation(db: sqlite3.Connection, built: Built) -> None:
    job = built.job
    query = "SELECT 1 FROM generations WHERE id = ?"
    if db.execute(query, (built.generation,)).fetchone() is None:
        return  # the index was taken off its collection, or is being made anew
    query = "SELECT 1 FROM documents WHERE id = ? AND version = ?"
    if db.execute(query, (job.document, job.version)).fetchone() is None:
        set_state(db, State.DEAD, [built.generation])
        return
    db.execute(
        "UPDATE generations SET state = ? WHERE binding = ? AND document = ? AND state = ?",
        (State.DEAD, job.binding, job.document, State.VISIBLE),
    )
    set_state(db, State.VISIBLE, [built.generation])
    key = (job.binding, job.document)
    db.execute("DELETE FROM jobs WHERE binding = ? AND document = ?", key)


def set_state(db: sqlite3.Connection, state: State, generations: list[int]) -> None:
    query = "UPDATE generations SET state = ? WHERE id = ?"
    db.executemany(query, [(state, id) for id in generations])


def new_name() -> str:
    return f"documents-{uuid.uuid4().hex}"


def timestamp(seconds: float) -> str:
    # Clients parse exactly this form, with the fraction.
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def first_column(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [row[0] for row in rows]


def one_row(cursor: sqlite3.Cursor) -> tuple[Any, ...]:
    row: tuple[Any, ...] = cursor.fetchone()
    return row


def one_number(cursor: sqlite3.Cursor) -> int:
    return int(one_row(cursor)[0])
