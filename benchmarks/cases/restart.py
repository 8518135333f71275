"""(g) a kernel with many compiled skills starts again."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks import components
from benchmarks.bench import Bench
from benchmarks.figures import median
from benchmarks.processes import running_kernel
from benchmarks.table import Row

_AIM = 2.0
_ENGINES = 2


def measure(bench: Bench) -> list[Row]:
    """From the start of the process until ``/ready`` says yes and all engines take runs.

    The files are in the system's page cache, as they are when a service is restarted.
    """
    count = bench.times(20, 4)
    rounds = bench.times(4, 2)
    greet = bench.wasm["greet"].read_bytes()
    variants = [components.variant(greet, f"restart {number}") for number in range(count)]
    bench.say(f"g: compiling {count} components, unless the cache has them")
    artifacts = components.compile_all(variants)
    seconds = []
    with tempfile.TemporaryDirectory(prefix="bench-skills-") as folder:
        for number, wasm in enumerate(variants):
            components.publish(wasm, Path(folder) / f"skill-{number}.wasm")
        for turn in range(rounds):
            bench.say(f"g: start {turn + 1} of {rounds}")
            began = time.perf_counter()
            with running_kernel(Path(folder), engines=_ENGINES):
                seconds.append(time.perf_counter() - began)
    size = sum(artifact.size for artifact in artifacts) + sum(map(len, variants))
    return [_row(count, seconds, size), _empty(bench)]


def _row(count: int, seconds: list[float], size: int) -> Row:
    return Row(
        key="g",
        what=f"restart with {count} compiled skills to ready, {_ENGINES} engines",
        result=f"{median(seconds):.2f} s ({', '.join(f'{s:.2f}' for s in sorted(seconds))})",
        ratio=f"{size / 1e9:.1f} GB of components and artifacts are hashed",
        aim=f"< {_AIM:.0f} s",
        met=median(seconds) < _AIM,
        values={"seconds": median(seconds), "skills": count},
    )


def _empty(bench: Bench) -> Row:
    seconds = []
    with tempfile.TemporaryDirectory(prefix="bench-skills-") as folder:
        for _ in range(bench.times(3, 1)):
            began = time.perf_counter()
            with running_kernel(Path(folder), engines=_ENGINES):
                seconds.append(time.perf_counter() - began)
    return Row(
        key="g",
        what="for comparison: without any skill",
        result=f"{median(seconds):.2f} s",
        values={"seconds": median(seconds)},
    )
