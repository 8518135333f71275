"""(t) what one request costs with the components of both SDKs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct, field

from benchmarks import authors, bare, client, components
from benchmarks.authors import PUBLISHED, SDKS
from benchmarks.bench import GREETING_INPUT, Bench, run_path
from benchmarks.figures import median, percentile
from benchmarks.processes import MB, Kernel, running_kernel
from benchmarks.table import Row, milliseconds

_CONCURRENCY = 16
_PER_ROUND = 100
_HELD = 40
"""Runs whose memory is looked at."""


class _Cost(Struct):
    """Of all rounds with one component."""

    latencies: list[float] = field(default_factory=list)
    requests: int = 0
    seconds: float = 0.0
    engine: float = 0.0
    """Processor seconds."""
    memory: float = 0.0
    """Bytes that are a run's own."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def per_run(self) -> float:
        return self.engine / self.requests


def measure(bench: Bench) -> list[Row]:
    costs = {sdk: _Cost() for sdk in SDKS}
    with ExitStack() as stack:
        skills = Path(stack.enter_context(TemporaryDirectory(prefix="bench-skills-")))
        for number, sdk in enumerate(SDKS):
            costs[sdk].memory = _publish(bench, sdk, skills / f"greet{number}.wasm")
        kernel = stack.enter_context(running_kernel(skills, engines=1))
        rounds = bench.times(10, 2)
        for turn in range(rounds):
            bench.say(f"t: round {turn + 1} of {rounds}")
            for number, sdk in enumerate(SDKS):
                _add(costs[sdk], bench, kernel, run_path(f"greet{number}"))
    return [_row(sdk, costs) for sdk in SDKS]


def _publish(bench: Bench, sdk: str, target: Path) -> float:
    """Build and compile greet; returns the memory of a run."""
    bench.say(f"t: building greet with {sdk}")
    with authors.author(sdk) as writer:
        writer.build()
        wasm = writer.component.read_bytes()
    (artifact,) = components.compile_all([wasm])
    components.publish(wasm, target)
    return bench.bare[0](bare.engine_memory, str(artifact.path), GREETING_INPUT, _HELD)


def _add(cost: _Cost, bench: Bench, kernel: Kernel, path: str) -> None:
    address = kernel.address
    cost.latencies += bench.client(client.latencies, address, path, GREETING_INPUT, _PER_ROUND)
    _, before = kernel.processor_seconds()
    load = bench.client(
        client.throughput, address, path, GREETING_INPUT, _CONCURRENCY, bench.times(3, 1)
    )
    _, after = kernel.processor_seconds()
    cost.requests += load.requests
    cost.seconds += load.seconds
    cost.engine += after - before


def _row(sdk: str, costs: dict[str, _Cost]) -> Row:
    cost, base = costs[sdk], costs[PUBLISHED]
    p50 = median(cost.latencies)
    ratio = f"processor {cost.per_run / base.per_run:.2f}, "
    ratio += f"latency {p50 / median(base.latencies):.2f}, "
    ratio += f"memory {cost.memory / base.memory:.2f} of {PUBLISHED}"
    return Row(
        key="t",
        what=f"greet as {sdk} builds it, in one engine",
        result=f"engine {milliseconds(cost.per_run)} of processor per run; one at a time p50 "
        f"{milliseconds(p50)}, p99 {milliseconds(percentile(cost.latencies, 0.99))}; "
        f"{_CONCURRENCY} at a time {cost.rate:.0f}/s; {cost.memory / MB:.2f} MB of its own",
        ratio="" if sdk == PUBLISHED else ratio,
        aim="" if sdk == PUBLISHED else f"less than {PUBLISHED}",
        met=None if sdk == PUBLISHED else cost.per_run < base.per_run,
        values={
            "engine_cpu_ms": cost.per_run * 1e3,
            "p50_ms": p50 * 1e3,
            "per_second": cost.rate,
            "memory_mb": cost.memory / MB,
        },
    )
