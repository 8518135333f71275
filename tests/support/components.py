"""Real components for tests: built skills, their machine code, and engines to run them in.

A test package gets the fixtures by importing them into its ``conftest.py``. Both the components and
their machine code are kept in ``skill_build_cache/``: the second run of the suite compiles nothing.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from pharia_kernel.engine.api import Artifact, StreamItem
from pharia_kernel.engine.compiler import CompilerProcess, CompilerSettings
from pharia_kernel.engine.pool import Pool, PoolSettings
from pharia_kernel.engine.process import EngineSettings
from tools.build_skills import CACHE, build

MIB = 1 << 20
PATIENCE = 30.0
"""Seconds after which a test fails instead of waiting on."""


def skill(name: str) -> bytes:
    """The component of a test skill."""
    return skill_file(name).read_bytes()


@functools.cache
def skill_file(name: str) -> Path:
    return build([name], report=lambda _: None)[name]


def digest_of(wasm: bytes) -> str:
    return f"sha256:{hashlib.sha256(wasm).hexdigest()}"


def compiler_settings(directory: Path, **changes: Any) -> CompilerSettings:
    settings = CompilerSettings(
        directory=directory, capacity=8 << 30, jobs=1, timeout=200.0, memory_limit=4 << 30
    )
    return msgspec.structs.replace(settings, **changes)


class Artifacts:
    """Compiles components on first use."""

    def __init__(self, directory: Path) -> None:
        self._settings = compiler_settings(directory)
        # A thread, because the tests that ask for artifacts have a loop running.
        self._thread = ThreadPoolExecutor(1)
        self._known: dict[str, Artifact] = {}

    def __call__(self, name: str) -> Artifact:
        """Of the test skill."""
        if name not in self._known:
            self._known[name] = self.of(skill(name))
        return self._known[name]

    def of(self, wasm: bytes) -> Artifact:
        return self._thread.submit(lambda: asyncio.run(self._compile(wasm))).result()

    async def _compile(self, wasm: bytes) -> Artifact:
        return await CompilerProcess(self._settings).compile(digest_of(wasm), wasm)

    def close(self) -> None:
        self._thread.shutdown()


@pytest.fixture(scope="session")
def artifacts() -> Iterator[Artifacts]:
    artifacts = Artifacts(CACHE / "artifacts")
    yield artifacts
    artifacts.close()


def pool_settings(
    *,
    engines: int = 1,
    queue_length: int = 100,
    quarantine_after: int = 3,
    quarantine_window: float = 60.0,
    **engine: Any,
) -> PoolSettings:
    """``engine`` are changes to small ``EngineSettings``."""
    defaults = EngineSettings(max_runs=50, memory_limit=64 * MIB, output_limit=64 << 10)
    return PoolSettings(
        engines=engines,
        queue_length=queue_length,
        quarantine_after=quarantine_after,
        quarantine_window=quarantine_window,
        engine=msgspec.structs.replace(defaults, **engine),
    )


NewPool = Callable[..., Awaitable[Pool]]
"""Arguments: artifacts to load; by name, what ``pool_settings`` takes."""


async def started_pool(*load: Artifact, **settings: Any) -> Pool:
    pool = Pool(pool_settings(**settings))
    try:
        await pool.start()
        for artifact in load:
            await pool.load(artifact)
    except BaseException:
        await pool.close()
        raise
    return pool


@pytest.fixture
async def new_pool() -> AsyncIterator[NewPool]:
    """Makes pools, and closes them after the test."""
    async with AsyncExitStack() as stack:

        async def make(*load: Artifact, **settings: Any) -> Pool:
            pool = await started_pool(*load, **settings)
            stack.push_async_callback(pool.close)
            return pool

        yield make


def soon(seconds: float = PATIENCE) -> float:
    """A deadline."""
    return time.monotonic() + seconds


async def eventually(condition: Callable[[], Any]) -> None:
    """Look again until the condition holds: no event tells of what other processes do."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@functools.cache
def may_leave_network() -> bool:
    """Whether the system lets an unprivileged process have a network namespace of its own."""
    command = [sys.executable, "-c", UNSHARE]
    return subprocess.run(command, check=False).returncode == 0


UNSHARE = "import ctypes; raise SystemExit(-ctypes.CDLL(None).unshare(0x50000000))"


def network(pid: int) -> str:
    """Names the network namespace of a process."""
    return os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115


Answer = Callable[[str, Any], Any]
"""(function, arguments) -> plain data, or an awaitable of it"""


class RecordingHost:
    """Implements ``engine.api.Host``: remembers what the guest did, and answers as it is told."""

    def __init__(self, answer: Answer | None = None, *, consume: bool = True) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.items: list[StreamItem] = []
        self.consumed: list[Callable[[], None]] = []
        """For each item that waits in the guest's window, what says that it doesn't any longer."""
        self.printed = {"stdout": b"", "stderr": b""}
        self._answer = answer
        self._consume = consume

    async def call(self, function: str, args: bytes) -> bytes:
        arguments = msgspec.msgpack.decode(args)
        self.calls.append((function, arguments))
        if self._answer is None:
            raise AssertionError(f"unexpected system call {function}")
        value = self._answer(function, arguments)
        return msgspec.msgpack.encode(await value if asyncio.iscoroutine(value) else value)

    def emit(self, item: StreamItem, consumed: Callable[[], None]) -> None:
        self.items.append(item)
        if self._consume:
            consumed()
        else:
            self.consumed.append(consumed)

    def output(self, channel: Literal["stdout", "stderr"], data: bytes) -> None:
        self.printed[channel] += data
