"""(l) language selection and chunking, and how long the kernel's event loop stalls meanwhile."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks import client, corpus
from benchmarks.bench import Bench
from benchmarks.processes import MB, Kernel, running_kernel
from benchmarks.table import Row, milliseconds
from pharia_kernel.drivers.language import CODES

_LONG = 100_000
_HUGE = 10_000_000
_ENGINES = 2
"""As many processes split texts; one selects languages."""
_TRAINED, _TIKTOKEN, _UNKNOWN = "trained", "tiktoken", "unknown"
"""Models with a tokenizer of each kind, and with none: its chunks are counted in characters."""


class _Work(Struct, frozen=True):
    what: str
    path: str
    body: bytes
    texts: int
    """In a request."""
    size: int
    """Bytes of UTF-8 of all of them."""
    concurrency: int


class _Done(Struct, frozen=True):
    requests: int
    seconds: float
    kernel: float
    """Processor time in seconds."""
    workers: float
    stall: float
    stall_processor: float


def measure(bench: Bench) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-texts-") as folder, bench.skills() as none:
        tokenizer = Path(folder) / "tokenizer.json"
        corpus.write_tokenizer(tokenizer)
        settings = {
            f"TOKENIZERS__{_TRAINED.upper()}": str(tokenizer),
            f"TOKENIZERS__{_TIKTOKEN.upper()}": "tiktoken:cl100k_base",
        }
        with running_kernel(none, engines=_ENGINES, settings=settings, watched=True) as kernel:
            idle = _idle(bench, kernel)
            return [idle, *(_row(work, _do(bench, kernel, work)) for work in _works())]


def _works() -> Iterator[_Work]:
    five = sorted(corpus.LANGUAGES)
    short = list(corpus.LANGUAGES.values())
    long = corpus.passage(0, _LONG)
    yield _selection("texts of 170 characters, 5 languages", short, five, 4)
    yield _selection("texts of 170 characters, all 75 languages", short, sorted(CODES), 4)
    yield _selection("texts of 100 kB, 5 languages", [long], five, 2)
    for model, counted, max_tokens in (
        (_UNKNOWN, "characters", 1000),
        (_TIKTOKEN, "tokens of tiktoken", 256),
        (_TRAINED, "tokens of a tokenizer.json", 256),
    ):
        yield _chunking(f"100 kB by {counted}", long, model, max_tokens, _ENGINES)
    huge = (corpus.prose() * (_HUGE // len(corpus.prose()) + 1))[:_HUGE]
    yield _chunking("10 MB by characters, one at a time", huge, _UNKNOWN, 1000, 1)


def _selection(what: str, texts: list[str], codes: list[str], concurrency: int) -> _Work:
    requests = [{"text": text, "languages": codes} for text in texts]
    what = f"language selection: {what}"
    return _work(what, "/csi/v2/select_language", requests, texts, concurrency)


def _chunking(what: str, text: str, model: str, max_tokens: int, concurrency: int) -> _Work:
    params = {"model": model, "max_tokens": max_tokens, "overlap": 0}
    requests = [{"text": text, "params": params, "character_offsets": True}]
    what = f"chunking: {what}"
    return _work(what, "/csi/v2/chunk_with_offsets", requests, [text], concurrency)


def _work(
    what: str, path: str, requests: list[dict[str, Any]], texts: list[str], concurrency: int
) -> _Work:
    size = sum(len(text.encode()) for text in texts)
    return _Work(what, path, json.dumps(requests).encode(), len(texts), size, concurrency)


def _do(bench: Bench, kernel: Kernel, work: _Work) -> _Done:
    bench.say(f"l: {work.what}")
    # Starts the processes and loads what they need.
    bench.client(client.burst, kernel.address, work.path, work.body, work.concurrency)
    kernel.longest_stall()
    before = kernel.processor_seconds()[0], kernel.processor_seconds_of_workers()
    load = bench.client(
        client.throughput,
        kernel.address,
        work.path,
        work.body,
        work.concurrency,
        bench.times(5, 1),
    )
    after = kernel.processor_seconds()[0], kernel.processor_seconds_of_workers()
    return _Done(
        load.requests,
        load.seconds,
        after[0] - before[0],
        after[1] - before[1],
        *kernel.longest_stall(),
    )


def _row(work: _Work, done: _Done) -> Row:
    megabytes = done.requests * work.size / MB
    texts = done.requests * work.texts / done.seconds
    kernel, workers = (used / megabytes * 1e3 for used in (done.kernel, done.workers))
    return Row(
        key="l",
        what=work.what,
        result=f"{megabytes / done.seconds:.2f} MB/s, {texts:.1f} texts/s; ms of processor per "
        f"MB: workers {workers:.0f}, kernel {kernel:.0f}",
        ratio=f"longest stall {milliseconds(done.stall)}, {milliseconds(done.stall_processor)} of "
        "it the loop's own work",
        values={
            "mb_per_second": megabytes / done.seconds,
            "texts_per_second": texts,
            "workers_cpu_ms_per_mb": workers,
            "kernel_cpu_ms_per_mb": kernel,
            "stall_ms": done.stall * 1e3,
            "stall_processor_ms": done.stall_processor * 1e3,
        },
    )


def _idle(bench: Bench, kernel: Kernel) -> Row:
    """What other users of the machine do to a loop."""
    bench.say("l: stalls without work")
    kernel.longest_stall()
    time.sleep(bench.times(3, 1))
    longest, processor = kernel.longest_stall()
    return Row(
        key="l",
        what="for comparison: the loop of a kernel that does nothing",
        result="",
        ratio=f"longest stall {milliseconds(longest)}, {milliseconds(processor)} of it the loop's "
        "own work",
        values={"stall_ms": longest * 1e3},
    )
