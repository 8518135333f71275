"""(e) a large input that comes back as output."""

from __future__ import annotations

import json

from benchmarks import client
from benchmarks.bench import Bench, run_path
from benchmarks.figures import median, percentile
from benchmarks.processes import running_kernel
from benchmarks.table import Row, milliseconds

_SIZE = 1 << 20
_AIM = 0.060


def measure(bench: Bench) -> list[Row]:
    bodies = {"of records": _records(), "that is one string": _string()}
    durations: dict[str, list[float]] = {shape: [] for shape in bodies}
    with bench.skills("echo") as skills, running_kernel(skills, engines=2) as kernel:
        path = run_path("echo")
        for shape, body in bodies.items():
            if json.loads(bench.client(client.answer, kernel.address, path, body)) != json.loads(
                body
            ):
                raise AssertionError(f"the JSON {shape} came back changed")
        rounds = bench.times(6, 1)
        for turn in range(rounds):
            bench.say(f"e: round {turn + 1} of {rounds}")
            for shape, body in bodies.items():
                durations[shape] += bench.client(client.latencies, kernel.address, path, body, 20)
    return [_row(shape, values) for shape, values in durations.items()]


def _records() -> bytes:
    """What an application would send: objects with short texts and numbers."""
    records: list[dict[str, object]] = []
    size = 0
    while size < _SIZE:
        number = len(records)
        record = {
            "id": number,
            "title": f"Document {number}",
            "text": "The quick brown fox jumps over the lazy dog. " * 3,
            "score": number / 7,
            "tags": ["benchmark", "record"],
        }
        records.append(record)
        size += len(json.dumps(record)) + 2
    return json.dumps(records)[:-1].encode() + b"]"


def _string() -> bytes:
    return json.dumps("x" * (_SIZE - 2)).encode()


def _row(shape: str, durations: list[float]) -> Row:
    p50 = median(durations)
    return Row(
        key="e",
        what=f"1 MiB of JSON {shape}, in and out",
        result=f"p50 {milliseconds(p50)}, p99 {milliseconds(percentile(durations, 0.99))}",
        ratio=f"{2 * _SIZE / p50 / 1e6:.0f} MB/s",
        aim=f"< {_AIM * 1000:.0f} ms",
        met=p50 < _AIM,
        values={"p50_ms": p50 * 1e3, "p99_ms": percentile(durations, 0.99) * 1e3},
    )
