"""A process that is killed in the middle of ingestion loses nothing that it has acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.drivers.retrieval.support import DEADLINE, WordEmbedders, opened, prepare, put, search
from tests.drivers.retrieval.support import path as document_path

_ROOT = Path(__file__).parents[4]
_DOCUMENTS = 200


@pytest.mark.parametrize("acknowledged", [1, 40, 120])
async def test_kill(tmp_path: Path, acknowledged: int) -> None:
    names = await _ingest_until_killed(tmp_path, acknowledged)
    assert len(names) >= acknowledged
    embedders = WordEmbedders()
    async with opened(tmp_path, embedders) as index, asyncio.timeout(DEADLINE):
        await index.indexed()
        assert await index.progress("dev", "manuals") == 0
        found = await search(index, "word", 1000)
        by_name = {hit.document_path.name: hit.content for hit in found}
        assert len(by_name) == len(found)
        for name in names:
            assert by_name[name] == _text(name)
            assert await index.sections(document_path(name), "default")


async def _ingest_until_killed(directory: Path, acknowledged: int) -> list[str]:
    """Names of the documents whose storing was acknowledged by a process that was then killed."""
    command = [sys.executable, "-m", __name__, str(directory)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    names: list[str] = []
    async with asyncio.timeout(DEADLINE):
        while line := await process.stdout.readline():
            names.append(line.decode().strip())
            if len(names) == acknowledged:
                process.kill()
        assert await process.wait() == -9
    return names


async def _ingest(directory: Path) -> None:
    """Print the name of each document when it is stored. It ends only by being killed."""
    async with opened(directory, WordEmbedders()) as index:
        await prepare(index)
        for number in range(_DOCUMENTS):
            # The second round changes documents, so that versions are being swapped.
            name = f"d{number % 60}"
            await put(index, name, _text(name) if number >= 60 else "word before")
            if number >= 60:
                print(name, flush=True)
        await asyncio.Event().wait()


def _text(name: str) -> str:
    return f"word of {name}"


if __name__ == "__main__":
    asyncio.run(_ingest(Path(sys.argv[1])))
