"""The machine of all readers, and the times that they took."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.provisions import Machine
from tests.docs.reader import Reader


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def reader(machine: Machine, tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, machine)
    yield reader
    reader.close()
