"""One kernel with a real model server, and the components of all test skills."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest_asyncio
from sdk_components import component, moved
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, temporary_home
from tests.support.llm import Llm, llm
from tools.build_skills import build

__all__ = ["llm"]

MOVED = ("csi_tour", "stream_chat")
"""Skills of the kernel's tests that were written for ``pharia_skill``."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kernel(llm: Llm) -> AsyncGenerator[KernelProcess, None]:
    settings = {"openai_inference__url": llm.url, "openai_inference__token": llm.token}
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, engines=1, **settings) as home:
        for name in ("greet", "tour", "story", "faulty"):
            home.deploy(name, component(name))
        for name, original in build(MOVED, report=lambda _: None).items():
            home.deploy(f"original_{name}", original)
            home.deploy(f"moved_{name}", moved(name))
        async with home.running() as running:
            yield running
