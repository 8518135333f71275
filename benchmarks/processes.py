"""The kernel and the servers that are measured: processes of their own, as in production."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import psutil
from msgspec import Struct

from benchmarks.components import ARTIFACTS
from tools.build_skills import ROOT

Address = tuple[str, int]

NAMESPACE = "bench"
_HOST = "127.0.0.1"
_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_POLL = 0.02
_COMMAND = [str(Path(sysconfig.get_path("scripts")) / "pharia-kernel"), "serve"]
_WATCHED = [sys.executable, "-m", "benchmarks.watched"]
MB = 1e6


class DidNotStart(Exception):
    """A process that is to be measured did not come up; the message has its log."""


class Kernel:
    """A kernel that listens. Its log is JSON, at the level that a kernel has by default."""

    def __init__(self, process: subprocess.Popen[bytes], address: Address, log: Path) -> None:
        self.address = address
        self._process = process
        self._log = log
        self._psutil = psutil.Process(process.pid)

    # --- what it says of itself

    def get(self, path: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def engines(self) -> list[psutil.Process]:
        engines = self.get("/ready")[1]["components"]["engines"]["engines"]
        return [psutil.Process(engine["pid"]) for engine in engines]

    def active_runs(self) -> int:
        engines = self.get("/ready")[1]["components"]["engines"]["engines"]
        return sum(engine["runs"] for engine in engines)

    def wait_until_ready(self) -> None:
        """Until all engines take runs and every skill is ready; raises ``DidNotStart``."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            status, body = self._try_ready()
            engines = body and body["components"]["engines"]["engines"]
            if status == 200 and all(engine["ready"] for engine in engines):
                failed = body["components"]["skills"]["failed"]
                if failed:
                    raise DidNotStart(f"{failed} skills failed to load.\n{self._tail()}")
                return
            time.sleep(_POLL)
        raise DidNotStart(f"The kernel was not ready in {_START_SECONDS:.0f} s.\n{self._tail()}")

    def _try_ready(self) -> tuple[int, Any]:
        try:
            return self.get("/ready")
        except (OSError, http.client.HTTPException):
            return 0, None

    def check_alive(self) -> None:
        if self._process.poll() is not None:
            raise DidNotStart(f"The kernel ended ({self._process.returncode}).\n{self._tail()}")

    def log_records(self) -> Iterator[dict[str, Any]]:
        for line in self._log.read_bytes().splitlines(keepends=True):
            if line.startswith(b"{") and line.endswith(b"\n"):
                yield json.loads(line)

    def _tail(self) -> str:
        return self._log.read_text("utf-8", "replace")[-4000:]

    def longest_stall(self) -> tuple[float, float]:
        """Of the event loop since the last call, in seconds, and what its thread used meanwhile.

        Only a watched kernel knows.
        """
        stall = self.get("/stalls")[1]
        return stall["longest"], stall["processor"]

    # --- what it uses

    def processor_seconds(self) -> tuple[float, float]:
        """Of the kernel process, and of all its engines, since they started."""
        return _processor_seconds(self._psutil), sum(map(_processor_seconds, self.engines()))

    def processor_seconds_of_workers(self) -> float:
        """Of the processes that split texts or detect languages, since they started."""
        engines = {engine.pid for engine in self.engines()}
        others = [child for child in self._psutil.children() if child.pid not in engines]
        return sum(map(_processor_seconds, others))

    def memory(self) -> tuple[float, float]:
        """Proportional set size in bytes: of the kernel process, and of all its engines."""
        return _pss(self._psutil), sum(map(_pss, self.engines()))


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _pss(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError("smaps_rollup has no line `Pss`")


@contextmanager
def running_kernel(
    skills: Path,
    *,
    engines: int,
    llm: Address | None = None,
    settings: Mapping[str, str] | None = None,
    toml: str = "",
    watched: bool = False,
    wait: bool = True,
) -> Iterator[Kernel]:
    """A kernel that serves the directory ``skills`` as namespace ``bench``, stopped in the end.

    It uses the shared cache of artifacts. ``llm`` is its inference provider; ``settings`` are more
    variables, ``toml`` is the text of its ``config.toml``. A ``watched`` one knows its longest
    stall. With ``wait`` it is ready, else it only has been started.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-kernel-")))
        address = (_HOST, _free_port())
        log = home / "log"
        (home / "config.toml").write_text(toml)
        environment = _environment(home, address, skills, engines, llm) | dict(settings or {})
        command = _WATCHED if watched else _COMMAND
        if watched:
            environment["PYTHONPATH"] = str(ROOT)
        with log.open("wb") as file:
            process = subprocess.Popen(command, cwd=home, env=environment, stderr=file)
        stack.callback(_stop, process)
        kernel = Kernel(process, address, log)
        if wait:
            kernel.wait_until_ready()
        yield kernel


def _environment(
    home: Path, address: Address, skills: Path, engines: int, llm: Address | None
) -> dict[str, str]:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "KERNEL_ADDRESS": f"{address[0]}:{address[1]}",
        "METRICS_ADDRESS": f"{_HOST}:0",
        "ENGINES": str(engines),
        "WASMTIME_CACHE_DIR": str(ARTIFACTS),
        f"NAMESPACES__{NAMESPACE.upper()}__DIRECTORY": str(skills),
        "LOG_FORMAT": "json",
        # One more than is ever asked for at once: nothing is to be refused.
        "MAX_RUNS_PER_SKILL": "2000",
    }
    if llm:
        environment["OPENAI_INFERENCE__URL"] = f"http://{llm[0]}:{llm[1]}/v1"
        environment["OPENAI_INFERENCE__TOKEN"] = "benchmark"
    return environment


class Server(Struct, frozen=True):
    """A backend of the kernel."""

    address: Address
    process: psutil.Process

    def processor_seconds(self) -> float:
        """Since it started."""
        return _processor_seconds(self.process)


@contextmanager
def running_llm(*, latency: float = 0.0, tokens: int = 5, delay: float = 0.0) -> Iterator[Server]:
    """The scripted model server of the tests, in a process of its own. All times in seconds."""
    options = {"--latency": latency, "--tokens": tokens, "--delay": delay}
    arguments = [text for pair in options.items() for text in map(str, pair)]
    with _running_server("tests.support.faulty_llm", arguments) as server:
        yield server


@contextmanager
def running_embeddings() -> Iterator[Server]:
    """A server that embeds texts, in a process of its own."""
    with _running_server("benchmarks.embeddings", []) as server:
        yield server


@contextmanager
def running_collector(*, delay: float = 0.0) -> Iterator[Address]:
    """A collector of traces, in a process of its own, that answers after ``delay`` seconds."""
    with _running_server("benchmarks.collector", ["--delay", str(delay)]) as server:
        yield server.address


@contextmanager
def _running_server(module: str, arguments: list[str]) -> Iterator[Server]:
    address = (_HOST, _free_port())
    command = [sys.executable, "-m", module, "--port", str(address[1]), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _wait_for_port(process, address)
        yield Server(address, psutil.Process(process.pid))
    finally:
        _stop(process)


def _wait_for_port(process: subprocess.Popen[bytes], address: Address) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError:
            time.sleep(_POLL)
    raise DidNotStart(f"`{process.args!r}` did not start.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return cast(int, probe.getsockname()[1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
