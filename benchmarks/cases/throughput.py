"""(c) requests per second at concurrency 16, with one and two engines."""

from __future__ import annotations

from contextlib import ExitStack

from msgspec import Struct

from benchmarks import bare, client
from benchmarks.bench import GREETING_INPUT, Bench, run_path
from benchmarks.figures import mean
from benchmarks.processes import Kernel, running_kernel
from benchmarks.table import Row

_AIM = 0.8
_CONCURRENCY = 16
_ENGINES = (1, 2)
_BARE_RUNS = 200


class _Total(Struct):
    """Of all rounds with one number of engines."""

    requests: int = 0
    seconds: float = 0.0
    client: float = 0.0
    kernel: float = 0.0
    engines: float = 0.0

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def measure(bench: Bench) -> list[Row]:
    rounds = bench.times(5, 1)
    seconds = bench.times(3, 1)
    alone: list[float] = []
    together: list[float] = []
    totals = {engines: _Total() for engines in _ENGINES}
    with ExitStack() as stack:
        skills = stack.enter_context(bench.skills("greet"))
        kernels = {
            engines: stack.enter_context(running_kernel(skills, engines=engines))
            for engines in _ENGINES
        }
        for kernel in kernels.values():
            _load(bench, kernel, 0.5)
        for turn in range(rounds):
            bench.say(f"c: round {turn + 1} of {rounds}")
            alone += _bare(bench, 1)
            for engines, kernel in kernels.items():
                _add(totals[engines], bench, kernel, seconds)
            together += _bare(bench, 2)
    return [_row(engines, total, mean(alone)) for engines, total in totals.items()] + [
        _limit(mean(alone), mean(together))
    ]


def _bare(bench: Bench, processes: int) -> list[float]:
    work = [
        process.begin(bare.public_api, bench.plain, GREETING_INPUT, _BARE_RUNS)
        for process in bench.bare[:processes]
    ]
    return [duration for part in work for duration in part.result()]


def _load(bench: Bench, kernel: Kernel, seconds: float) -> client.Load:
    path = run_path("greet")
    return bench.client(
        client.throughput, kernel.address, path, GREETING_INPUT, _CONCURRENCY, seconds
    )


def _add(total: _Total, bench: Bench, kernel: Kernel, seconds: float) -> None:
    kernel_before, engines_before = kernel.processor_seconds()
    load = _load(bench, kernel, seconds)
    kernel_after, engines_after = kernel.processor_seconds()
    total.requests += load.requests
    total.seconds += load.seconds
    total.client += load.processor_seconds
    total.kernel += kernel_after - kernel_before
    total.engines += engines_after - engines_before


def _row(engines: int, total: _Total, alone: float) -> Row:
    ratio = total.rate / (engines / alone)
    parts = {
        "engines": total.engines / total.requests * 1e3,
        "kernel": total.kernel / total.requests * 1e3,
        "client": total.client / total.requests * 1e3,
    }
    used = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
    return Row(
        key="c",
        what=f"requests at concurrency {_CONCURRENCY}, {engines} engine{'s' * (engines > 1)}",
        result=f"{total.rate:.0f}/s; ms of processor per request: {used}",
        ratio=f"{ratio:.2f} of {engines}/(a), (a) beside it: mean {alone * 1e3:.2f} ms",
        aim=f">= {_AIM}",
        met=ratio >= _AIM,
        values={"per_second": total.rate, "ratio": ratio, "bare_ms": alone * 1e3}
        | {f"{name}_cpu_ms": value for name, value in parts.items()},
    )


def _limit(alone: float, together: float) -> Row:
    return Row(
        key="c",
        what="for comparison: (a) in two processes at once",
        result=f"{2 / together:.0f}/s",
        ratio=f"{alone / together:.2f} of 2/(a): what this machine's cores allow",
        values={"per_second": 2 / together, "ratio": alone / together},
    )
