"""(f) from a new component in the directory to its first answer.

A skill that serves is replaced: its old version is ``echo``, its new one ``greet``, so the answer
tells which of them ran. No request may fail.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import client, components
from benchmarks.bench import GREETING, GREETING_INPUT, Bench, run_path
from benchmarks.figures import median
from benchmarks.processes import Kernel, running_kernel
from benchmarks.table import Row, milliseconds

_AIM = 0.050
_COMPILE_LIMIT = 180.0
_SWAP_LIMIT = 30.0
_SETTLED = 2.5
"""Seconds after which the kernel trusts a file's times to tell of changes."""
_LOOK_EVERY = 0.002
_COMPILED = "compiled "


def measure(bench: Bench) -> list[Row]:
    with bench.skills("echo") as skills, running_kernel(skills, engines=2) as kernel:
        target = skills / "hot.wasm"
        fresh = components.variant(bench.wasm["greet"].read_bytes(), secrets.token_hex(8))
        _return_to_echo(bench, kernel, target)
        rows = _replaced_by_fresh(bench, kernel, target, fresh)
        known = []
        for turn in range(rounds := bench.times(10, 3)):
            bench.say(f"f: replaced by a compiled component, round {turn + 1} of {rounds}")
            _return_to_echo(bench, kernel, target)
            known.append(_replaced_by_known(bench, kernel, target, fresh))
    asyncio.run(components.forget(components.digest(fresh)))
    return [*rows, _row_of_known(known)]


def _return_to_echo(bench: Bench, kernel: Kernel, target: Path) -> None:
    components.publish(bench.wasm["echo"], target)
    deadline = time.monotonic() + _SWAP_LIMIT
    while time.monotonic() < deadline:
        details = kernel.get("/v1/skills?detail=true")[1]
        hot = next((skill for skill in details if skill["path"].endswith("/hot")), None)
        if hot and hot["digest"] == bench.artifacts["echo"].digest and not hot["updating_to"]:
            time.sleep(_SETTLED)
            return
        time.sleep(_LOOK_EVERY)
    raise TimeoutError("the old version did not come back")


# --- a component that nobody has seen -------------------------------------------------------------


def _replaced_by_fresh(bench: Bench, kernel: Kernel, target: Path, fresh: bytes) -> list[Row]:
    bench.say("f: replaced by a new component, which is compiled first")
    digest = components.digest(fresh)
    components.publish(fresh, target)
    published = time.time()
    compiled = _wait_for_compiled(kernel, digest)
    # Asking begins only now: before, it would take processor time from the compiler.
    change = _asking(bench, kernel, pause=0.0).result()
    swap = change.first_new - compiled
    return [
        Row(
            key="f",
            what="a new component replaces one: copied to first answer",
            result=f"{change.first_new - published:.2f} s",
            ratio=f"compile {compiled - published:.2f} s, swap {milliseconds(swap)}",
            aim=f"swap < {_AIM * 1000:.0f} ms",
            met=swap < _AIM,
            values={
                "total_s": change.first_new - published,
                "compile_s": compiled - published,
                "swap_ms": swap * 1e3,
            },
        )
    ]


def _wait_for_compiled(kernel: Kernel, digest: str) -> float:
    """When the kernel had the artifact, in seconds since the epoch, as its log says."""
    deadline = time.monotonic() + _COMPILE_LIMIT
    while time.monotonic() < deadline:
        kernel.check_alive()
        for record in kernel.log_records():
            if record["message"].startswith(_COMPILED + digest):
                return _seconds(record)
        time.sleep(_LOOK_EVERY)
    raise TimeoutError("the new component was not compiled in time")


def _seconds(record: dict[str, Any]) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()


def _asking(bench: Bench, kernel: Kernel, *, pause: float) -> Future[client.Change]:
    return bench.client.begin(
        client.wait_for_change,
        kernel.address,
        run_path("hot"),
        GREETING_INPUT,
        GREETING,
        pause=pause,
        limit=_SWAP_LIMIT,
    )


# --- a component whose artifact is in the cache ---------------------------------------------------


def _replaced_by_known(bench: Bench, kernel: Kernel, target: Path, fresh: bytes) -> float:
    asking = _asking(bench, kernel, pause=_LOOK_EVERY)
    components.publish(fresh, target)
    published = time.time()
    return asking.result().first_new - published


def _row_of_known(durations: list[float]) -> Row:
    return Row(
        key="f",
        what="the same when the artifact is in the cache (noticed, hashed, verified, loaded)",
        result=f"p50 {milliseconds(median(durations))}",
        ratio=f"{min(durations) * 1e3:.0f} to {max(durations) * 1e3:.0f} ms",
        values={"p50_ms": median(durations) * 1e3},
    )
