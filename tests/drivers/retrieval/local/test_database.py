from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pharia_kernel.drivers.retrieval.local.database import Database
from pharia_kernel.errors import DocumentStorageFailed


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM things").fetchone()[0])


async def test_what_comes_before_the_file_is_open_is_refused(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "things.sqlite")
    for access in (database.read, database.write):
        with pytest.raises(DocumentStorageFailed, match="not open"):
            await access(count)
    await database.open("CREATE TABLE things (id INTEGER)")
    try:
        assert await database.read(count) == 0
    finally:
        await database.close()


async def test_closing_what_was_never_opened(tmp_path: Path) -> None:
    database = Database(tmp_path / "things.sqlite")
    await database.close()
    with pytest.raises(DocumentStorageFailed, match="not open"):
        await database.read(count)


async def test_closing_twice_as_after_an_opening_that_failed(tmp_path: Path) -> None:
    database = Database(tmp_path / "things.sqlite")
    with pytest.raises(OSError, match="can't be used as a database"):
        await database.open("CREATE NONSENSE")
    await database.close()
    with pytest.raises(DocumentStorageFailed, match="not open"):
        await database.read(count)


async def test_a_file_has_one_user(tmp_path: Path) -> None:
    first, second = (Database(tmp_path / "things.sqlite") for _ in range(2))
    await first.open("CREATE TABLE things (id INTEGER)")
    with pytest.raises(BlockingIOError, match="used by another process"):
        await second.open("CREATE TABLE things (id INTEGER)")
    await second.close()
    await first.close()
