"""Many skills and many namespaces: (m) a start with 100 skills, (n) 100 new skills, (o) polling 200
namespaces.

The skills are small, so that what is seen is the cost of each skill and not that of its bytes,
which (g) shows.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from benchmarks import client, components
from benchmarks.bench import GREETING_INPUT, Bench, run_path
from benchmarks.figures import median, percentile
from benchmarks.processes import Kernel, running_kernel
from benchmarks.table import Row, milliseconds

_ENGINES = 2
_BOOT_AIM = 2.0
_LONGEST = 600.0
_LOOK_EVERY = 0.02
_POLLED_SECONDS = 20.0
_INTERVAL = 10.0


def measure(bench: Bench) -> list[Row]:
    tiny = components.build(["tiny_echo"])["tiny_echo"].read_bytes()
    return [*_boot(bench, tiny), *_new(bench, tiny), *_polling(bench, tiny)]


def _variants(tiny: bytes, count: int, mark: str) -> list[bytes]:
    return [components.variant(tiny, f"{mark} {number}") for number in range(count)]


def _deploy(variants: list[bytes], folder: Path) -> None:
    for number, wasm in enumerate(variants):
        components.publish(wasm, folder / f"skill-{number}.wasm")


def _serving(kernel: Kernel) -> int:
    skills: int = kernel.get("/ready")[1]["components"]["skills"]["serving"]
    return skills


# --- (m) ------------------------------------------------------------------------------------------


def _boot(bench: Bench, tiny: bytes) -> list[Row]:
    count = bench.times(100, 20)
    variants = _variants(tiny, count, "boot")
    bench.say(f"m: compiling {count} small components, unless the cache has them")
    components.compile_all(variants)
    seconds, empty = [], []
    with (
        tempfile.TemporaryDirectory(prefix="bench-skills-") as full,
        tempfile.TemporaryDirectory(prefix="bench-skills-") as none,
    ):
        _deploy(variants, Path(full))
        for turn in range(rounds := bench.times(4, 2)):
            bench.say(f"m: start {turn + 1} of {rounds}")
            seconds.append(_start(Path(full)))
            empty.append(_start(Path(none)))
    each = (median(seconds) - median(empty)) / count
    return [
        Row(
            key="m",
            what=f"start with {count} compiled skills to ready, {_ENGINES} engines",
            result=f"{median(seconds):.2f} s ({', '.join(f'{s:.2f}' for s in sorted(seconds))})",
            ratio=f"{median(empty):.2f} s without any; {milliseconds(each)} for each skill",
            aim=f"< {_BOOT_AIM:.0f} s",
            met=median(seconds) < _BOOT_AIM,
            values={"seconds": median(seconds), "empty_s": median(empty), "skills": count},
        )
    ]


def _start(skills: Path) -> float:
    began = time.perf_counter()
    with running_kernel(skills, engines=_ENGINES):
        return time.perf_counter() - began


# --- (n) ------------------------------------------------------------------------------------------


def _new(bench: Bench, tiny: bytes) -> list[Row]:
    """A skill that serves is asked all the time meanwhile."""
    count = bench.times(100, 10)
    variants = _variants(tiny, count, secrets.token_hex(8))
    path = run_path("greet")
    with bench.skills("greet") as skills, running_kernel(skills, engines=_ENGINES) as kernel:
        bench.client(client.latencies, kernel.address, path, GREETING_INPUT, 50)
        alone = bench.client(client.latencies, kernel.address, path, GREETING_INPUT, 300)
        bench.say(f"n: {count} new skills at once")
        _deploy(variants, skills)
        began = time.perf_counter()
        beside: list[float] = []
        while _serving(kernel) <= count:
            if time.perf_counter() - began > _LONGEST:
                raise TimeoutError("the new skills did not become ready")
            beside += bench.client(client.latencies, kernel.address, path, GREETING_INPUT, 10)
        seconds = time.perf_counter() - began
    for wasm in variants:
        asyncio.run(components.forget(components.digest(wasm)))
    return [
        Row(
            key="n",
            what=f"{count} new small skills copied in, until all serve (one compiles at a time)",
            result=f"{seconds:.1f} s",
            ratio=f"{milliseconds(seconds / count)} each; greet beside it: p50 "
            f"{median(beside) / median(alone):.2f}, p99 "
            f"{percentile(beside, 0.99) / percentile(alone, 0.99):.2f} of alone",
            values={
                "seconds": seconds,
                "beside_p50_ratio": median(beside) / median(alone),
                "beside_p99_ratio": percentile(beside, 0.99) / percentile(alone, 0.99),
            },
        )
    ]


# --- (o) ------------------------------------------------------------------------------------------

_DESCRIPTION = b'skills = [{ name = "skill-0" }]\n'
_ETAG = '"1"'


class _Descriptions(BaseHTTPRequestHandler):
    """A server as a team's git server is: it knows ETags."""

    protocol_version = "HTTP/1.1"
    unchanged = 0
    sent = 0

    def do_GET(self) -> None:
        same = self.headers.get("If-None-Match") == _ETAG
        type(self).unchanged += same
        type(self).sent += not same
        body = b"" if same else _DESCRIPTION
        self.send_response(304 if same else 200)
        self.send_header("ETag", _ETAG)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def _description_server() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Descriptions)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def _polling(bench: Bench, tiny: bytes) -> list[Row]:
    """Processor time of the kernel while nothing happens, with and without namespaces to poll."""
    count = bench.times(200, 20)
    variants = _variants(tiny, 1, "boot")
    components.compile_all(variants)
    with (
        tempfile.TemporaryDirectory(prefix="bench-skills-") as folder,
        tempfile.TemporaryDirectory(prefix="bench-skills-") as none,
        _description_server() as port,
    ):
        _deploy(variants, Path(folder))
        namespaces = "".join(
            f'[namespaces.team-{number}]\npath = "{folder}"\n'
            f'config-url = "http://127.0.0.1:{port}/{number}.toml"\n'
            for number in range(count)
        )
        bench.say(f"o: {count} namespaces, polled every {_INTERVAL:.0f} s")
        idle = _busy(Path(none), "", 0)
        polling = _busy(Path(none), namespaces, count)
    each = (polling - idle) * _INTERVAL / count
    return [
        Row(
            key="o",
            what=f"polling {count} remote namespaces of one skill every {_INTERVAL:.0f} s",
            result=f"{100 * polling:.1f} % of a core ({100 * idle:.1f} % without any)",
            ratio=f"{milliseconds(each)} of processor time for a poll of one; "
            f"{_Descriptions.unchanged} of {_Descriptions.unchanged + _Descriptions.sent} "
            "answers were 304",
            values={"core_share": polling, "idle_core_share": idle, "per_poll_ms": each * 1e3},
        )
    ]


def _busy(skills: Path, toml: str, serving: int) -> float:
    """Processor seconds of the kernel process per second."""
    settings = {"NAMESPACE_UPDATE_INTERVAL": f"{_INTERVAL:.0f}s"}
    with running_kernel(skills, engines=_ENGINES, settings=settings, toml=toml) as kernel:
        deadline = time.monotonic() + _LONGEST
        while _serving(kernel) < serving:
            if time.monotonic() > deadline:
                raise TimeoutError("the namespaces were not read")
            time.sleep(_LOOK_EVERY)
        time.sleep(_INTERVAL)  # what starting left to do
        before = kernel.processor_seconds()[0]
        time.sleep(_POLLED_SECONDS)
        return (kernel.processor_seconds()[0] - before) / _POLLED_SECONDS
