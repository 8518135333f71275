"""What all measurements share: the components, their artifacts, workers and the amount of work."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType

from benchmarks import components
from benchmarks.processes import NAMESPACE
from benchmarks.workers import Worker, worker
from pharia_kernel.engine.api import Artifact

GREETING_INPUT = json.dumps({"name": "bench"}).encode()
GREETING = b'"Hello bench"'
MODEL = "model"


class Bench:
    """Use as a context: leaving it ends the processes that it started."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self._stack = ExitStack()
        self._began = time.monotonic()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", flush=True)

    def times(self, count: int, quick: int) -> int:
        """How often something is done."""
        return quick if self.quick else count

    # --- components

    @cached_property
    def wasm(self) -> dict[str, Path]:
        self.say("building the skills")
        return components.build(["greet", "echo", "chatty", "chat_batch", "stream_chat"])

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """By name, compiled by the kernel's own compiler; kernels find them in their cache."""
        names = list(self.wasm)
        self.say("compiling the skills, unless the cache has them")
        compiled = components.compile_all([self.wasm[name].read_bytes() for name in names])
        return dict(zip(names, compiled, strict=True))

    @contextmanager
    def skills(self, *names: str) -> Iterator[Path]:
        """A directory with these skills, which are compiled."""
        with tempfile.TemporaryDirectory(prefix="bench-skills-") as folder:
            for name in names:
                assert self.artifacts[name]
                components.publish(self.wasm[name], Path(folder) / f"{name}.wasm")
            yield Path(folder)

    # --- processes

    @cached_property
    def client(self) -> Worker:
        """Where the load comes from."""
        return self._stack.enter_context(worker())

    @cached_property
    def bare(self) -> list[Worker]:
        """Two processes that run a guest without a kernel."""
        return [self._stack.enter_context(worker()) for _ in range(2)]

    @cached_property
    def plain(self) -> str:
        """File of the greet skill as ``wasmtime`` compiles it by default."""
        return str(components.compile_plainly(self.wasm["greet"].read_bytes()))


def run_path(skill: str) -> str:
    return f"/v1/skills/{NAMESPACE}/{skill}/run"


def stream_path(skill: str) -> str:
    return f"/v1/skills/{NAMESPACE}/{skill}/message-stream"
