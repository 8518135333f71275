"""(q) what it costs to be watched: traces of every run and JSON logs, against neither.

The kernels take turns, so that other users of the machine disturb all of them alike.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks import client
from benchmarks.bench import GREETING_INPUT, Bench, run_path
from benchmarks.processes import Kernel, running_collector, running_kernel
from benchmarks.table import Row

_AIM = 0.9
_CONCURRENCY = 16
_SLOW = 30.0
_DEAD = "http://127.0.0.1:9"
_SILENT = {"LOG_LEVEL": "error", "LOG_FORMAT": "text", "CONSOLE_RUNS": "0"}


def measure(bench: Bench) -> list[Row]:
    rounds = bench.times(6, 2)
    with ExitStack() as stack:
        skills = stack.enter_context(bench.skills("greet"))
        healthy = stack.enter_context(running_collector())
        slow = stack.enter_context(running_collector(delay=_SLOW))
        collectors = {
            "a collector": _url(healthy),
            "a slow collector (30 s)": _url(slow),
            "a dead collector": _DEAD,
        }
        unwatched = stack.enter_context(running_kernel(skills, engines=1, settings=_SILENT))
        watched = {
            name: stack.enter_context(running_kernel(skills, engines=1, settings=_traced(url)))
            for name, url in collectors.items()
        }
        for kernel in (unwatched, *watched.values()):
            _rate(bench, kernel)  # not measured
        base: list[float] = []
        rates: dict[str, list[float]] = {name: [] for name in watched}
        for turn in range(rounds):
            bench.say(f"q: round {turn + 1} of {rounds}")
            base.append(_rate(bench, unwatched))
            for name, kernel in watched.items():
                rates[name].append(_rate(bench, kernel))
    return [_row(name, base, rates[name]) for name in watched]


def _url(address: tuple[str, int]) -> str:
    return f"http://{address[0]}:{address[1]}/v1/traces"


def _traced(url: str) -> dict[str, str]:
    return {"OTEL_ENDPOINT": url, "OTEL_SAMPLING_RATIO": "1.0", "LOG_FORMAT": "json"}


def _rate(bench: Bench, kernel: Kernel) -> float:
    path, seconds = run_path("greet"), bench.times(3, 1)
    load = bench.client(
        client.throughput, kernel.address, path, GREETING_INPUT, _CONCURRENCY, seconds
    )
    return load.requests / load.seconds


def _row(name: str, base: list[float], rates: list[float]) -> Row:
    ratio = sum(rates) / sum(base)
    mean = sum(rates) / len(rates)
    return Row(
        key="q",
        what=f"runs with all traces to {name}, JSON logs and the console's history; one engine",
        result=f"{mean:.0f}/s ({sum(base) / len(base):.0f}/s with none of them)",
        ratio=f"{ratio:.3f}",
        aim=f">= {_AIM}",
        met=ratio >= _AIM,
        values={"per_second": mean, "ratio": ratio},
    )
