"""Whole kernels, shared as far as tests leave them as they found them.

All tests of this folder run in one event loop, in which the scripted inference backend lives.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.skills import hostile
from tests.support.faulty_llm import FaultyLlm, proper, running_faulty_llm
from tests.support.kernel import NATIVE_TOOLS, KernelHome, KernelProcess, temporary_home
from tests.support.llm import llm
from tools.build_skills import build

__all__ = ["llm"]

BACKEND_TOKEN = "token-of-the-backend"
STRICT_RUN_TIMEOUT = 2.5
"""Seconds."""

NewHome = Callable[..., KernelHome]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and inspect.iscoroutinefunction(
            getattr(item, "obj", None)
        ):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            # The first start of a kernel on a machine compiles: fixtures have limits of their own.
            item.add_marker(pytest.mark.timeout(120, func_only=True))


@pytest.fixture(scope="session")
def components() -> dict[str, Path]:
    """All test skills, built."""
    return build()


@pytest.fixture
def new_home() -> Iterator[NewHome]:
    """Makes homes of kernels that belong to one test, with one engine if it does not say more."""
    with ExitStack() as stack:

        def make(**options: Any) -> KernelHome:
            home: AbstractContextManager[KernelHome] = temporary_home(**{"engines": 1} | options)
            return stack.enter_context(home)

        yield make


# --- the inference backend ------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scripted_backend() -> AsyncGenerator[FaultyLlm, None]:
    async with running_faulty_llm() as server:
        yield server


@pytest.fixture
def backend(scripted_backend: FaultyLlm) -> FaultyLlm:
    """The backend of the shared kernels, which has forgotten other tests."""
    scripted_backend.default = proper()
    scripted_backend.script.clear()
    scripted_backend.received.clear()
    scripted_backend.arrived.clear()
    scripted_backend.disconnected.clear()
    return scripted_backend


def inference(backend: FaultyLlm) -> dict[str, str]:
    """Settings of a kernel that uses the backend."""
    return {"openai_inference__url": backend.url, "openai_inference__token": BACKEND_TOKEN}


# --- kernels --------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kernel(
    components: dict[str, Path], scripted_backend: FaultyLlm
) -> AsyncGenerator[KernelProcess, None]:
    """A kernel with the skills that compilers built, two that never end, and all tools."""
    endless = ("infinite_stream", "tool_storm")
    built = {n: file for n, file in components.items() if n not in hostile.SKILLS or n in endless}
    settings = inference(scripted_backend)
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, **settings) as home:
        home.deploy_all(built)
        async with home.running() as process:
            yield process


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def strict_kernel(
    components: dict[str, Path], scripted_backend: FaultyLlm
) -> AsyncGenerator[KernelProcess, None]:
    """A kernel that gives runs little time and memory, with the hostile skills and healthy ones."""
    healthy = ("greet", "chatty", "chat_04", "stream_chat", "stream_05")
    chosen = {name: components[name] for name in (*hostile.SKILLS, *healthy)}
    limits = {"run_timeout": f"{STRICT_RUN_TIMEOUT}s", "skill_memory_limit": "128MiB"}
    settings = inference(scripted_backend) | limits
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, **settings) as home:
        home.deploy_all(chosen)
        async with home.running() as process:
            yield process
