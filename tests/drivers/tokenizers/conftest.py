from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.drivers.tokenizers.server import TokenizerServer, running_server


@pytest.fixture
async def server() -> AsyncGenerator[TokenizerServer, None]:
    async with running_server() as server:
        yield server
