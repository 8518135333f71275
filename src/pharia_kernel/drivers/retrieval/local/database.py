"""A SQLite file off the event loop: one thread writes, another one reads."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from pharia_kernel.errors import DocumentStorageFailed

log = logging.getLogger("pharia_kernel.retrieval")

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Database:
    """Readers see what was committed before they began, and are not held up by the writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = path.with_suffix(".lock")
        self._lock_file: IO[str] | None = None
        self._writer = _Side("documents-write")
        self._reader = _Side("documents-read")

    async def open(self, schema: str) -> None:
        """Create what is missing. Raises ``OSError`` if the file can't be used or is in use."""
        await asyncio.to_thread(self._path.parent.mkdir, parents=True, exist_ok=True)
        self._lock_file = self._lock.open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise BlockingIOError(f"`{self._path.parent}` is used by another process") from None
        try:
            await self._writer.run(lambda: self._connect(self._writer))
            await self._writer.run(lambda: self._writer.connection.executescript(schema))
            await self._reader.run(lambda: self._connect(self._reader))
        except sqlite3.Error as error:
            await self.close()
            raise OSError(f"`{self._path}` can't be used as a database: {error}") from error

    async def close(self) -> None:
        for side in (self._reader, self._writer):
            await side.close()
        if self._lock_file is not None:
            self._lock_file.close()

    async def write(self, work: Work[T]) -> T:
        """Run in a transaction; when this returns, its changes survive a crash."""
        connection = self._writer
        return await self._run(connection, lambda: _in_transaction(connection.connection, work))

    async def read(self, work: Work[T]) -> T:
        return await self._run(self._reader, lambda: work(self._reader.connection))

    async def _run(self, side: _Side, work: Callable[[], T]) -> T:
        try:
            return await side.run(work)
        except sqlite3.Error as error:
            log.error("The document database failed: %r", error)
            raise DocumentStorageFailed("The documents can't be read or written.") from error

    def _connect(self, side: _Side) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # What was acknowledged survives a power failure too.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA busy_timeout = 10000")
        side.use(connection)


class _Side:
    """A connection and the thread that uses it."""

    def __init__(self, name: str) -> None:
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._closed = False

    @property
    def connection(self) -> sqlite3.Connection:
        """Raises ``DocumentStorageFailed`` unless the file is open."""
        if self._connection is None:
            raise _not_open()
        return self._connection

    def use(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise _not_open()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Also a second time, as after an opening that failed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self.run(connection.close)
        self._closed = True
        self._thread.shutdown(wait=False)


def _not_open() -> DocumentStorageFailed:
    return DocumentStorageFailed(
        "The document index is not open; the log of the kernel says if opening it failed."
    )


def _in_transaction(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
