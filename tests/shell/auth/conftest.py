from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.shell.auth.support import Clock, Iam
from tests.support.oidc import OpenIdProvider, openid_provider


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def iam() -> AsyncIterator[Iam]:
    iam = Iam()
    await iam.server.start_server()
    yield iam
    await iam.server.close()


@pytest.fixture
async def provider() -> AsyncIterator[OpenIdProvider]:
    async with openid_provider() as provider:
        yield provider
