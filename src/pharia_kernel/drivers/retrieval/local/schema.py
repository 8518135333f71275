"""The tables of the document index."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """Of a generation."""

    BUILDING = 0
    VISIBLE = 1
    DEAD = 2


SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (namespace, name)
);
CREATE TABLE IF NOT EXISTS indexes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    config BLOB NOT NULL,
    UNIQUE (namespace, name)
);
CREATE TABLE IF NOT EXISTS bindings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
    "index" INTEGER NOT NULL REFERENCES indexes,
    vectors TEXT NOT NULL,
    size INTEGER,
    UNIQUE (collection, "index")
);
CREATE TABLE IF NOT EXISTS documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL,
    created REAL NOT NULL,
    metadata BLOB NOT NULL,
    contents BLOB NOT NULL,
    UNIQUE (collection, name)
);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    binding INTEGER NOT NULL REFERENCES bindings ON DELETE CASCADE,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    failures INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    error TEXT,
    UNIQUE (binding, document)
);
CREATE INDEX IF NOT EXISTS jobs_of_documents ON jobs (document);
CREATE TABLE IF NOT EXISTS generations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    binding INTEGER NOT NULL REFERENCES bindings ON DELETE CASCADE,
    document INTEGER NOT NULL,
    state INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS generations_of_documents ON generations (document, binding);
CREATE INDEX IF NOT EXISTS generations_by_state ON generations (state) WHERE state != 1;
CREATE INDEX IF NOT EXISTS generations_of_bindings ON generations (binding, state);
CREATE TABLE IF NOT EXISTS sections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    generation INTEGER NOT NULL REFERENCES generations ON DELETE CASCADE,
    item INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sections_of_generations ON sections (generation);
CREATE TABLE IF NOT EXISTS dropped_vectors (name TEXT PRIMARY KEY);
"""
