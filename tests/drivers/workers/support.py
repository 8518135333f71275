"""Work for worker processes, and ways to look at them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import psutil
from msgspec import Struct

from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tokenizers.base import Tokenizer
from pharia_kernel.drivers.tokenizers.protocol import Spans
from pharia_kernel.drivers.tokenizers.splitting import Splitters
from pharia_kernel.drivers.workers.pool import WorkerPool

T = TypeVar("T")

ANYBODY = CallContext()
ENDLESS = "x" * 3_000_000
"""One word, with which the library would be busy for minutes."""


async def split(
    splitters: Splitters,
    text: str,
    tokenizer: Tokenizer | None = None,
    max_tokens: int = 10,
    context: CallContext = ANYBODY,
) -> Spans:
    spans: Spans = []
    await splitters.split(
        text, tokenizer, max_tokens=max_tokens, overlap=0, context=context, each=spans.extend
    )
    return spans


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 (other processes have no events)
            await asyncio.sleep(0.005)


async def working(pool: WorkerPool, seconds: float = 0.5) -> psutil.Process:
    """The pool's only process, as soon as it has used its processor for so long."""
    await until(lambda: bool(pool.pids))
    process = psutil.Process(*pool.pids)
    await until(lambda: bool(process.cpu_times().user >= seconds))
    return process


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


class Watched(Struct, Generic[T]):
    result: T
    turns: int
    """Of the event loop meanwhile. Work that keeps it busy leaves a few dozen of them, and a slow
    machine does not make them fewer."""


async def watched(call: Awaitable[T]) -> Watched[T]:
    task = asyncio.ensure_future(call)
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    return Watched(task.result(), turns)
