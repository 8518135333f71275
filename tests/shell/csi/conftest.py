from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.shell.csi.support import RecordingCsi
from tests.shell.support import MemorySkills, app_of, running


@pytest.fixture
def csi() -> RecordingCsi:
    return RecordingCsi()


@pytest.fixture
async def client(csi: RecordingCsi) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server around ``csi``, with authorization off."""
    async with running(app_of(MemorySkills(), csi=csi)) as client:
        yield client
