"""(s) from the edit of a skill to its answer: in development mode, and as components."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import authors, client, components
from benchmarks.authors import OWN, PUBLISHED, Author
from benchmarks.bench import GREETING_INPUT, Bench, run_path
from benchmarks.figures import median
from benchmarks.processes import NAMESPACE, Address, DidNotStart, running_kernel
from benchmarks.table import Row, milliseconds

_AIM = 1.0
_LIMIT = 300.0
_PAUSE = 0.002
_LISTENING = re.compile(r"without a sandbox, at http://([\d.]+):(\d+)$", re.M)
_PATIENCE = 60.0


def measure(bench: Bench) -> list[Row]:
    kernel = authors.tool("pharia-kernel")
    with authors.author(OWN) as writer, running_dev(writer.source, kernel, {}) as address:
        bench.say("s: edits in development mode")
        client.answer(address, run_path("greet"), GREETING_INPUT)
        developed = [
            _until_answered(bench, writer, address, f"Edit {turn}", lambda: None)
            for turn in range(bench.times(30, 5))
        ]
    deployed = {sdk: _deployed(bench, sdk) for sdk in (OWN, PUBLISHED)}
    return [
        Row(
            key="s",
            what="saved to answered over HTTP, in development mode",
            result=f"p50 {milliseconds(median(developed))}, max {milliseconds(max(developed))}",
            ratio=f"{median(deployed[PUBLISHED]) / median(developed):.0f} times as fast as with "
            f"{PUBLISHED}",
            aim=f"< {_AIM:.0f} s",
            met=max(developed) < _AIM,
            values={"p50_ms": median(developed) * 1e3, "max_ms": max(developed) * 1e3},
        ),
        *(_row(sdk, seconds) for sdk, seconds in deployed.items()),
    ]


def _row(sdk: str, seconds: list[float]) -> Row:
    return Row(
        key="s",
        what=f"the same with a component: {sdk} build, copied to the kernel's folder, compiled",
        result=f"p50 {median(seconds):.1f} s, max {max(seconds):.1f} s",
        values={"p50_s": median(seconds), "max_s": max(seconds)},
    )


def _deployed(bench: Bench, sdk: str) -> list[float]:
    with (
        authors.author(sdk) as writer,
        tempfile.TemporaryDirectory(prefix="bench-skills-") as folder,
    ):
        writer.build()  # not measured, like the first start of the kernel
        target = Path(folder) / "greet.wasm"

        def deploy() -> None:
            writer.build()
            components.publish(writer.component, target)

        components.publish(writer.component, target)
        with running_kernel(Path(folder), engines=2) as kernel:
            seconds = []
            for turn in range(rounds := bench.times(3, 1)):
                bench.say(f"s: edit {turn + 1} of {rounds} with {sdk}")
                # Unlike any before, so that nothing is in the kernel's cache.
                greeting = f"Edit {time.time_ns()}"
                seconds.append(_until_answered(bench, writer, kernel.address, greeting, deploy))
                components.forget_now(writer.component.read_bytes())
            return seconds


def _until_answered(
    bench: Bench, writer: Author, address: Address, greeting: str, deploy: Callable[[], None]
) -> float:
    """Seconds from the edit until the skill greets like this."""
    began = time.time()
    writer.write(greeting)
    deploy()
    # Asking begins only now: before, it would take processor time from the build.
    change = bench.client(
        client.wait_for_change,
        address,
        run_path("greet"),
        GREETING_INPUT,
        f'"{greeting} bench"'.encode(),
        pause=_PAUSE,
        limit=_LIMIT,
    )
    return change.first_new - began


@contextmanager
def running_dev(source: Path, kernel: str, environment: Mapping[str, str]) -> Iterator[Address]:
    """The command ``kernel`` in development mode with one skill, as soon as it listens."""
    log = source.with_name(".log")
    command = [kernel, "dev", source.name]
    command += ["--address", "127.0.0.1:0", "--namespace", NAMESPACE]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=source.parent,
            env=authors.surroundings(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not (found := _LISTENING.search(log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DidNotStart(f"pharia-kernel dev did not start:\n{log.read_text()}")
            time.sleep(_PAUSE)
        yield found[1], int(found[2])
    finally:
        process.terminate()
        process.wait()
