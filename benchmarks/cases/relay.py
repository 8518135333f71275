"""(j) tokens per second through the kernel, with and without a skill in between."""

from __future__ import annotations

import json

from msgspec import Struct

from benchmarks import client
from benchmarks.bench import MODEL, Bench, stream_path
from benchmarks.figures import median
from benchmarks.processes import Address, Kernel, Server, running_kernel, running_llm
from benchmarks.table import Row

_TOKENS = 3000
_MESSAGES = [{"role": "user", "content": "Hi"}]
_TOKEN = b"token"
"""In every piece of text, and in the last events of a stream, but not in its head."""


class _Used(Struct):
    """Seconds of processor time."""

    server: float
    kernel: float
    engines: float

    def since(self, before: _Used) -> _Used:
        return _Used(
            self.server - before.server, self.kernel - before.kernel, self.engines - before.engines
        )


class _Way(Struct):
    what: str
    address: Address
    path: str
    body: bytes
    rates: list[float] = []
    """Tokens per second, one of each round."""
    used: list[_Used] = []

    def clear(self) -> None:
        self.rates, self.used = [], []


def measure(bench: Bench) -> list[Row]:
    rows = []
    with (
        bench.skills("stream_chat") as skills,
        running_llm(tokens=_TOKENS) as llm,
        running_kernel(skills, engines=1, llm=llm.address) as kernel,
    ):
        ways = _ways(llm.address, kernel.address)
        for streams in (1, 8):
            bench.say(f"j: tokens per second, {streams} at once")
            rows += _rows(bench, ways, streams, llm, kernel)
    return rows


def _ways(llm: Address, kernel: Address) -> list[_Way]:
    chat: dict[str, object] = {"model": MODEL, "messages": _MESSAGES}
    more: list[dict[str, object]] = [{"stream": True}, {"params": {}}, {}]
    bodies = [json.dumps(chat | each).encode() for each in more]
    csi = "/csi/v2/chat_stream"
    return [
        _Way("from the model server itself", llm, "/v1/chat/completions", bodies[0]),
        _Way(f"through {csi}", kernel, csi, bodies[1]),
        _Way("through WebAssembly, one engine", kernel, stream_path("stream_chat"), bodies[2]),
    ]


def _rows(bench: Bench, ways: list[_Way], streams: int, llm: Server, kernel: Kernel) -> list[Row]:
    for way in ways:
        way.clear()
    for _ in range(bench.times(4, 1)):
        for way in ways:
            _read(bench, way, streams, llm, kernel)
    direct = median(ways[0].rates)
    return [_row(way, streams, direct) for way in ways]


def _read(bench: Bench, way: _Way, streams: int, llm: Server, kernel: Kernel) -> None:
    before = _used(llm, kernel)
    read = bench.client(client.stream_rate, way.address, way.path, way.body, _TOKEN, streams)
    way.used.append(_used(llm, kernel).since(before))
    # More than asked for: the last events have the word in them too.
    if read.tokens < streams * _TOKENS:
        raise AssertionError(f"{read.tokens} of {streams * _TOKENS} tokens came")
    way.rates.append(streams * _TOKENS / read.seconds)


def _used(llm: Server, kernel: Kernel) -> _Used:
    return _Used(llm.processor_seconds(), *kernel.processor_seconds())


def _row(way: _Way, streams: int, direct: float) -> Row:
    tokens = len(way.used) * streams * _TOKENS
    micros = {
        name: sum(getattr(used, name) for used in way.used) / tokens * 1e6
        for name in ("server", "kernel", "engines")
    }
    shown = ", ".join(f"{name} {value:.0f}" for name, value in micros.items() if value >= 1)
    rate = median(way.rates)
    return Row(
        key="j",
        what=f"tokens {way.what}, {streams} stream{'s' * (streams > 1)}",
        result=f"{rate:,.0f}/s; \N{MICRO SIGN}s of processor per token: {shown}",
        ratio=f"{rate / direct:.2f} of the server's own",
        values={"per_second": rate, "ratio": rate / direct}
        | {f"{name}_cpu_us": value for name, value in micros.items()},
    )
