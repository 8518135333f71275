"""What the store hands out and takes."""

from __future__ import annotations

from msgspec import Struct

from pharia_kernel.drivers.retrieval.local.schema import State
from pharia_kernel.drivers.retrieval.local.types import IndexConfig, StoredSection


class Binding(Struct, frozen=True):
    """An index on a collection."""

    id: int
    config: IndexConfig
    vectors: str
    """Name of the collection in Qdrant."""
    size: int | None
    """Length of the vectors; none until there are any."""


class Job(Struct, frozen=True):
    """A document that is to be indexed."""

    binding: int
    document: int
    version: int
    failures: int
    """Of this version, so far."""
    name: str
    contents: bytes
    metadata: bytes


class Built(Struct, frozen=True):
    """The generation of a job, and the ids of its sections, in order."""

    job: Job
    generation: int
    ids: list[int]


class Garbage(Struct, frozen=True):
    vectors: str
    generations: list[int]
    ids: list[int]


class Seen(Struct, frozen=True):
    """What searches need to know of a point."""

    state: State
    section: StoredSection


class StoredDocument(Struct, frozen=True):
    contents: bytes
    metadata: bytes


class Put(Struct, frozen=True):
    version: int
    changed: bool
