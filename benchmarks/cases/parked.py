"""(d) a thousand runs that wait for a model at the same time."""

from __future__ import annotations

import json
import time

from benchmarks import bare, client
from benchmarks.bench import GREETING_INPUT, MODEL, Bench, run_path
from benchmarks.figures import mean, median
from benchmarks.processes import MB, Kernel, running_kernel, running_llm
from benchmarks.table import Row

_LATENCY = 2.0
_FOREVER = 300.0
_AIM_SECONDS = 3.0
_AIM_MB = 3.0
_ENGINES = 2
_PARK_SECONDS = 60.0
_BODY = json.dumps({"model": MODEL, "text": "How are you?"}).encode()
_PATH = run_path("chatty")


def measure(bench: Bench) -> list[Row]:
    count = bench.times(1000, 200)
    seconds, alone = _wall_time(bench, count)
    engines, kernel = _memory(bench, count)
    wall = median(seconds)
    floor = _LATENCY + count * alone / _ENGINES
    return [
        Row(
            key="d",
            what=f"{count} runs parked in a {_LATENCY:.0f} s chat call, {_ENGINES} engines",
            result=f"{wall:.2f} s ({', '.join(f'{s:.2f}' for s in sorted(seconds))})",
            ratio=f"{wall / floor:.2f} of {floor:.2f} s = {_LATENCY:.0f} s + {count} x (a) / "
            f"{_ENGINES}",
            aim=f"< {_AIM_SECONDS:.0f} s",
            met=wall < _AIM_SECONDS,
            values={"seconds": wall, "floor_seconds": floor},
        ),
        Row(
            key="d",
            what="memory (PSS) of each, in the engines",
            result=f"{engines / MB:.2f} MB",
            ratio=f"and {kernel / MB:.3f} MB in the kernel process",
            aim=f"< {_AIM_MB:.0f} MB",
            met=engines / MB < _AIM_MB,
            values={"engines_mb": engines / MB, "kernel_mb": kernel / MB},
        ),
    ]


def _wall_time(bench: Bench, count: int) -> tuple[list[float], float]:
    """Seconds of each burst; mean of (a) in between."""
    rounds = bench.times(3, 1)
    seconds, alone = [], []
    with (
        bench.skills("chatty") as skills,
        running_llm(latency=_LATENCY) as llm,
        running_kernel(skills, engines=_ENGINES, llm=llm.address) as kernel,
    ):
        bench.client(client.burst, kernel.address, _PATH, _BODY, 8)
        for turn in range(rounds):
            bench.say(f"d: {count} runs at once, round {turn + 1} of {rounds}")
            alone += bench.bare[0](bare.public_api, bench.plain, GREETING_INPUT, 100)
            seconds.append(bench.client(client.burst, kernel.address, _PATH, _BODY, count).seconds)
    return seconds, mean(alone)


def _memory(bench: Bench, count: int) -> tuple[float, float]:
    """Growth in bytes per parked run: of all engines, and of the kernel process.

    The model never answers here: looking at the memory takes a while, and all runs must be there.
    """
    with (
        bench.skills("greet", "chatty") as skills,
        running_llm(latency=_FOREVER) as llm,
        running_kernel(skills, engines=_ENGINES, llm=llm.address) as kernel,
    ):
        bench.say(f"d: memory of {count} parked runs")
        # Both engines have run guests before: what they keep from that is not counted.
        bench.client(client.burst, kernel.address, run_path("greet"), GREETING_INPUT, 8)
        before = kernel.memory()
        bench.client(client.park, kernel.address, _PATH, _BODY, count)
        _wait_until_parked(kernel, count)
        after = kernel.memory()
        bench.client(client.leave)
    return (after[1] - before[1]) / count, (after[0] - before[0]) / count


def _wait_until_parked(kernel: Kernel, count: int) -> None:
    """All have started, and no engine has anything left to execute."""
    deadline = time.monotonic() + _PARK_SECONDS
    while time.monotonic() < deadline:
        used = kernel.processor_seconds()[1]
        time.sleep(0.2)
        if kernel.active_runs() == count and kernel.processor_seconds()[1] - used < 0.02:
            return
    raise TimeoutError(f"only {kernel.active_runs()} of {count} runs were parked")
