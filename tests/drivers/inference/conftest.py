from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from pharia_kernel.drivers.inference.credentials import ConfiguredToken
from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.resilience import RetryPolicy
from tests.support.faulty_llm import FaultyLlm, running_faulty_llm
from tests.support.llm import llm

__all__ = ["llm"]

TOKEN = "configured-token"


@pytest.fixture
async def faulty() -> AsyncGenerator[FaultyLlm, None]:
    async with running_faulty_llm() as server:
        yield server


@pytest.fixture
async def driver(faulty: FaultyLlm) -> AsyncGenerator[OpenAiDriver, None]:
    """A driver in front of the faulty server that waits next to nothing between attempts."""
    driver = OpenAiDriver(
        faulty.url, ConfiguredToken(TOKEN), retry_policy=RetryPolicy(attempts=3, base=0.001)
    )
    yield driver
    await driver.close()
