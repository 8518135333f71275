"""(p) a skill is replaced again and again while it is asked all the time.

Two components take turns: ``echo`` and ``greet``, whose answers tell which of them ran.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import client, components
from benchmarks.bench import GREETING_INPUT, Bench, run_path
from benchmarks.figures import median, percentile
from benchmarks.processes import NAMESPACE, Kernel, running_kernel
from benchmarks.table import Row, milliseconds

_CONNECTIONS = 4
_PAUSE = 0.002
_LIMIT = 60.0


def measure(bench: Bench) -> list[Row]:
    rounds = bench.times(10, 2)
    seconds = []
    with bench.skills("echo") as skills, running_kernel(skills, engines=2) as kernel:
        target = skills / "hot.wasm"
        answers = {}
        for name in ("echo", "greet"):  # not measured
            components.publish(bench.wasm[name], target)
            answers[name] = _first_answer(kernel, bench.artifacts[name].digest)
        calm = bench.bare[0](client.latencies, kernel.address, run_path("hot"), GREETING_INPUT, 300)
        load = bench.client.begin(
            client.latencies_beside,
            kernel.address,
            run_path("hot"),
            GREETING_INPUT,
            _CONNECTIONS,
            until=str(skills / "stop"),
        )
        for turn in range(rounds):
            bench.say(f"p: replacement {turn + 1} of {rounds}")
            name = "greet" if turn % 2 else "echo"
            seconds.append(_swap(bench, kernel, target, bench.wasm[name], answers[name]))
        (skills / "stop").touch()
        beside = load.result()
    return [
        Row(
            key="p",
            what=f"replaced {rounds} times under load ({_CONNECTIONS} connections): copied to "
            "first answer",
            result=f"p50 {milliseconds(median(seconds))}, max {milliseconds(max(seconds))}",
            ratio=f"{len(beside)} runs, 0 failed; p99 {milliseconds(percentile(beside, 0.99))}, "
            f"max {milliseconds(max(beside))} (alone: p99 {milliseconds(percentile(calm, 0.99))})",
            values={
                "p50_ms": median(seconds) * 1e3,
                "max_ms": max(seconds) * 1e3,
                "runs": len(beside),
                "run_p99_ms": percentile(beside, 0.99) * 1e3,
                "run_max_ms": max(beside) * 1e3,
            },
        )
    ]


def _first_answer(kernel: Kernel, digest: str) -> bytes:
    deadline = time.monotonic() + _LIMIT
    while time.monotonic() < deadline:
        skills = kernel.get("/v1/skills?detail=true")[1]
        if any(
            skill["path"] == f"{NAMESPACE}/hot" and skill["digest"] == digest for skill in skills
        ):
            return client.answer(kernel.address, run_path("hot"), GREETING_INPUT)
        time.sleep(_PAUSE)
    raise TimeoutError("the replaced skill does not serve")


def _swap(bench: Bench, kernel: Kernel, target: Path, wasm: Path, answer: bytes) -> float:
    """Seconds from the copy of the component to the first answer of it."""
    asking = bench.bare[1].begin(
        client.wait_for_change,
        kernel.address,
        run_path("hot"),
        GREETING_INPUT,
        answer,
        pause=_PAUSE,
        limit=_LIMIT,
    )
    components.publish(wasm, target)
    published = time.time()
    return asking.result().first_new - published
