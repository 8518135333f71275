from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import pytest
import uvloop

from tests.shell.support import MemorySkills, app_of, running


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that serves in production: it differs in how it writes and notices disconnects."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def skills() -> MemorySkills:
    return MemorySkills()


@pytest.fixture
async def client(skills: MemorySkills) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server around ``skills``, with authorization off."""
    async with running(app_of(skills)) as client:
        yield client
