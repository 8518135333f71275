"""(a) the bare cost of a run, (b) the same run over HTTP, one after the other."""

from __future__ import annotations

from benchmarks import bare, client
from benchmarks.bench import GREETING_INPUT, Bench, run_path
from benchmarks.figures import mean, median, percentile
from benchmarks.processes import running_kernel
from benchmarks.table import Row, milliseconds

_AIM = 0.001
_PER_ROUND = 100


def measure(bench: Bench) -> list[Row]:
    """The three take turns, so that other users of the machine disturb all of them alike."""
    public: list[float] = []
    parts: list[float] = []
    http: list[float] = []
    artifact = str(bench.artifacts["greet"].path)
    rounds = bench.times(20, 3)
    with bench.skills("greet") as skills, running_kernel(skills, engines=2) as kernel:
        path = run_path("greet")
        bench.client(client.latencies, kernel.address, path, GREETING_INPUT, _PER_ROUND)
        for turn in range(rounds):
            bench.say(f"b: round {turn + 1} of {rounds}")
            public += bench.bare[0](bare.public_api, bench.plain, GREETING_INPUT, _PER_ROUND)
            parts += bench.bare[0](bare.engine_parts, artifact, GREETING_INPUT, _PER_ROUND)
            http += bench.client(client.latencies, kernel.address, path, GREETING_INPUT, _PER_ROUND)
    return _rows(public, parts, http)


def _rows(public: list[float], parts: list[float], http: list[float]) -> list[Row]:
    a, b = median(public), median(http)
    return [
        Row(
            key="a",
            what="bare run of greet, wasmtime's public API",
            result=f"p50 {milliseconds(a)}, mean {milliseconds(mean(public))}",
            values={"p50_ms": a * 1e3, "mean_ms": mean(public) * 1e3},
        ),
        Row(
            key="a'",
            what="bare run of greet, the engine's parts (pooling)",
            result=f"p50 {milliseconds(median(parts))}, mean {milliseconds(mean(parts))}",
            ratio=f"{median(parts) / a:.2f} of (a)",
            values={"p50_ms": median(parts) * 1e3, "mean_ms": mean(parts) * 1e3},
        ),
        Row(
            key="b",
            what="HTTP round trip, one at a time",
            result=f"p50 {milliseconds(b)}, p99 {milliseconds(percentile(http, 0.99))}",
            ratio=f"{b / a:.2f} of (a); (b)-(a) {milliseconds(b - a)}; (b)-(a') "
            f"{milliseconds(b - median(parts))}",
            aim="(b)-(a) < 1 ms",
            met=b - a < _AIM,
            values={
                "p50_ms": b * 1e3,
                "p99_ms": percentile(http, 0.99) * 1e3,
                "over_bare_ms": (b - a) * 1e3,
                "over_engine_parts_ms": (b - median(parts)) * 1e3,
                "ratio": b / a,
            },
        ),
    ]
