"""(i) many chats in one system call, from a skill and over HTTP."""

from __future__ import annotations

import json

from msgspec import Struct

from benchmarks import client
from benchmarks.bench import MODEL, Bench, run_path
from benchmarks.figures import median
from benchmarks.processes import Address, Kernel, running_kernel, running_llm
from benchmarks.table import Row, milliseconds

_LATENCY = 0.2
_AIM = 1.15
_SIZE = 64


class _Way(Struct):
    """One way to ask, with one chat and with a batch of them."""

    what: str
    address: Address
    path: str
    one: bytes
    batch: bytes
    seconds_of_one: list[float] = []
    seconds_of_batch: list[float] = []
    kernel: float = 0.0
    engines: float = 0.0

    @property
    def ratio(self) -> float:
        return median(self.seconds_of_batch) / median(self.seconds_of_one)


def measure(bench: Bench) -> list[Row]:
    rounds = bench.times(10, 3)
    direct: list[float] = []
    with (
        bench.skills("chat_batch") as skills,
        running_llm(latency=_LATENCY) as llm,
        running_kernel(skills, engines=2, llm=llm.address) as kernel,
    ):
        ways = _ways(kernel.address)
        for way in ways:  # opens the connections to the model server
            bench.client(client.answer, way.address, way.path, way.batch)
        for turn in range(rounds):
            bench.say(f"i: round {turn + 1} of {rounds}")
            direct.append(_directly(bench, llm.address))
            for way in ways:
                _ask(bench, kernel, way)
    return [*map(_row, ways), _floor(direct)]


def _ways(address: Address) -> list[_Way]:
    texts = [f"Question {number}" for number in range(_SIZE)]
    chats = [_chat(text) for text in texts]
    skill, csi = "a WebAssembly skill", "/csi/v2/chat"
    return [
        _Way(skill, address, run_path("chat_batch"), _input(texts[:1]), _input(texts)),
        _Way(csi, address, csi, json.dumps(chats[:1]).encode(), json.dumps(chats).encode()),
    ]


def _input(texts: list[str]) -> bytes:
    return json.dumps({"model": MODEL, "texts": texts}).encode()


def _chat(text: str) -> dict[str, object]:
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "params": {"max_tokens": 16}}


def _ask(bench: Bench, kernel: Kernel, way: _Way) -> None:
    way.seconds_of_one.append(bench.client(client.single, way.address, way.path, way.one))
    before = kernel.processor_seconds()
    way.seconds_of_batch.append(bench.client(client.single, way.address, way.path, way.batch))
    after = kernel.processor_seconds()
    way.kernel += after[0] - before[0]
    way.engines += after[1] - before[1]


def _directly(bench: Bench, llm: Address) -> float:
    messages = [{"role": "user", "content": "Question"}]
    body = json.dumps({"model": MODEL, "messages": messages, "max_tokens": 16}).encode()
    return bench.client(client.burst, llm, "/v1/chat/completions", body, _SIZE).seconds


def _row(way: _Way) -> Row:
    one, batch = median(way.seconds_of_one), median(way.seconds_of_batch)
    rounds = len(way.seconds_of_batch)
    kernel, engines = way.kernel / rounds * 1e3, way.engines / rounds * 1e3
    return Row(
        key="i",
        what=f"{_SIZE} chats of {_LATENCY * 1e3:.0f} ms in one call, {way.what}",
        result=f"p50 {milliseconds(batch)}; ms of processor: kernel {kernel:.0f}, "
        f"engines {engines:.0f}",
        ratio=f"{way.ratio:.2f} of one chat in a call, {milliseconds(one)}",
        aim=f"<= {_AIM}",
        met=way.ratio <= _AIM,
        values={
            "batch_ms": batch * 1e3,
            "one_ms": one * 1e3,
            "ratio": way.ratio,
            "kernel_cpu_ms": kernel,
            "engines_cpu_ms": engines,
        },
    )


def _floor(seconds: list[float]) -> Row:
    return Row(
        key="i",
        what=f"for comparison: {_SIZE} chats at once at the model server, without a kernel",
        result=f"p50 {milliseconds(median(seconds))}",
        ratio=f"{median(seconds) / _LATENCY:.2f} of its latency",
        values={"ms": median(seconds) * 1e3},
    )
