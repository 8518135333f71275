"""(h) what the kernel and a skill add to the first token of a stream."""

from __future__ import annotations

import json

from benchmarks import bare, client
from benchmarks.bench import MODEL, Bench, stream_path
from benchmarks.figures import median, percentile
from benchmarks.processes import running_kernel, running_llm
from benchmarks.table import Row, milliseconds

_AIM = 0.002
_PER_ROUND = 25
_MESSAGES = [{"role": "user", "content": "Hi"}]
_SKILL_BODY = json.dumps({"model": MODEL, "messages": _MESSAGES}).encode()
_DIRECT_BODY = json.dumps({"model": MODEL, "messages": _MESSAGES, "stream": True}).encode()
_SKILL_PATH = stream_path("stream_chat")
_DIRECT_PATH = "/v1/chat/completions"
_TOKEN = b"token"
"""In every piece of text, and in the last events of a stream, but not in its head."""


def measure(bench: Bench) -> list[Row]:
    direct: list[float] = []
    through: list[float] = []
    guest: list[float] = []
    artifact = str(bench.artifacts["stream_chat"].path)
    rounds = bench.times(12, 2)
    with (
        bench.skills("stream_chat") as skills,
        running_llm(tokens=3) as llm,
        running_kernel(skills, engines=2, llm=llm.address) as kernel,
    ):
        for turn in range(rounds):
            bench.say(f"h: first token, round {turn + 1} of {rounds}")
            direct += bench.client(
                client.first_tokens, llm.address, _DIRECT_PATH, _DIRECT_BODY, _TOKEN, _PER_ROUND
            )
            through += bench.client(
                client.first_tokens, kernel.address, _SKILL_PATH, _SKILL_BODY, _TOKEN, _PER_ROUND
            )
            guest += bench.bare[0](bare.engine_first_call, artifact, _SKILL_BODY, _PER_ROUND)
    return _rows(median(direct), through, median(guest))


def _rows(direct: float, through: list[float], guest: float) -> list[Row]:
    added = median(through) - direct
    return [
        Row(
            key="h",
            what="delay that is added to the first token",
            result=f"p50 {milliseconds(added)}",
            ratio=f"p50 {milliseconds(median(through))} through the kernel, "
            f"{milliseconds(direct)} directly; p99 {milliseconds(percentile(through, 0.99))}",
            aim=f"< {_AIM * 1000:.0f} ms",
            met=added < _AIM,
            values={
                "added_ms": added * 1e3,
                "through_ms": median(through) * 1e3,
                "direct_ms": direct * 1e3,
            },
        ),
        Row(
            key="h",
            what="of it in the guest, until it asks for the stream (engine's parts alone)",
            result=f"p50 {milliseconds(guest)}",
            ratio=f"{milliseconds(added - guest)} remain for the kernel, its hops and the rest of "
            "the guest",
            values={"guest_ms": guest * 1e3, "rest_ms": (added - guest) * 1e3},
        ),
    ]
