"""Measures what the kernel costs and prints one table.

    python -m benchmarks [--only b,c] [--quick] [--json FILE]

The first run builds and compiles what it needs, which takes minutes; it is kept in
``skill_build_cache/``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.bench import Bench
from benchmarks.cases import (
    batch,
    building,
    deploy,
    documents,
    editing,
    fleet,
    guests,
    latency,
    observed,
    parked,
    payload,
    relay,
    restart,
    stream,
    swap,
    texts,
    throughput,
    tutorial,
)
from benchmarks.table import Row
from tools.build_skills import BuildError

_CASES: dict[str, Callable[[Bench], list[Row]]] = {
    "b": latency.measure,
    "c": throughput.measure,
    "d": parked.measure,
    "e": payload.measure,
    "f": deploy.measure,
    "g": restart.measure,
    "h": stream.measure,
    "i": batch.measure,
    "j": relay.measure,
    "k": documents.measure,
    "l": texts.measure,
    "m": fleet.measure,
    "p": swap.measure,
    "q": observed.measure,
    "r": building.measure,
    "s": editing.measure,
    "t": guests.measure,
    "u": tutorial.measure,
}
"""(a) is measured beside each of those that are compared with it; (n) and (o) with (m)."""
_ALIASES = {"a": "b", "n": "m", "o": "m"}


def main() -> int:
    options = _options()
    began = time.monotonic()
    rows: list[Row] = []
    load = os.getloadavg()[0]
    try:
        with Bench(quick=options.quick) as bench:
            for key in options.only:
                rows += _CASES[key](bench)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = _about(load, options.quick, time.monotonic() - began)
    print()
    table.show(rows, _sentence(about), width=None if sys.stdout.isatty() else 150)
    if options.json:
        table.write_json(options.json, rows, about)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure what the kernel costs."
    )
    parser.add_argument(
        "--only", type=_keys, default=list(_CASES), help="letters of the measurements, such as b,c"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, less precise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    return parser.parse_args()


def _keys(text: str) -> list[str]:
    wanted = {_ALIASES.get(key.strip(), key.strip()) for key in text.split(",")}
    if unknown := wanted - set(_CASES):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: there are a, {', '.join(_CASES)}"
        )
    return [key for key in _CASES if key in wanted]


def _about(load: float, quick: bool, seconds: float) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "wasmtime": version("wasmtime"),
        "load_before": load,
        "quick": quick,
        "seconds": round(seconds, 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _sentence(about: dict[str, Any]) -> str:
    return (
        f"{about['date']}, {about['cores']} x {about['processor']}, Python {about['python']}, "
        f"wasmtime {about['wasmtime']}, load {about['load_before']:.2f} before, "
        f"{about['seconds']:.0f} s{' (quick)' if about['quick'] else ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
