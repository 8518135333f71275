"""A real kernel for tests: the ``pharia-kernel`` command in a process of its own, as users run it.

A ``KernelHome`` is what a kernel finds when it starts: a working directory with ``config.toml`` and
one folder of components per namespace. ``KernelHome.running`` starts a kernel in it and stops it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tools.build_skills import CACHE

COMMAND = Path(sysconfig.get_path("scripts")) / "pharia-kernel"
ARTIFACTS = CACHE / "artifacts"
"""Compiled components, shared by all kernels of this machine: compiling takes seconds."""
NATIVE_TOOLS = ("add", "subtract", "saboteur")

PATIENCE = 30.0
"""Seconds after which a test fails instead of waiting on."""
_COMPILE_PATIENCE = 900.0
"""The same for the start of a kernel, which may have everything to compile."""
_POLL = 0.02

_JSON = {"Content-Type": "application/json"}

T = TypeVar("T")
Json = Any


async def until(
    condition: Callable[[], Awaitable[T | None]], what: str, *, seconds: float = PATIENCE
) -> T:
    """The first true answer of ``condition``, which is asked again and again."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := await condition():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not after {seconds:.0f} s (last answer: {answer!r})")
        await asyncio.sleep(_POLL)


class KernelHome:
    """``namespaces`` maps names to the native tools that their skills may call.

    ``settings`` are named as in ``Settings`` and go into the environment of the kernel.
    """

    def __init__(
        self,
        folder: Path,
        *,
        namespaces: Mapping[str, Sequence[str]] | None = None,
        artifacts: Path = ARTIFACTS,
        **settings: object,
    ) -> None:
        self.folder = folder
        self.artifacts = artifacts
        self.settings = settings
        self._started = 0
        toml = []
        for name, tools in (namespaces or {"dev": ()}).items():
            (folder / name).mkdir(parents=True)
            toml += [f"[namespaces.{name}]", f'directory = "{name}"']
            toml += [f"native-tools = {json.dumps(list(tools))}"]
        (folder / "config.toml").write_text("\n".join(toml))

    def file(self, name: str, namespace: str = "dev") -> Path:
        return self.folder / namespace / f"{name}.wasm"

    def deploy(self, name: str, component: Path | bytes, namespace: str = "dev") -> None:
        """Put a component in place in one step, as careful deployers do."""
        target = self.file(name, namespace)
        unfinished = target.with_name(f".{name}.unfinished")
        if isinstance(component, bytes):
            unfinished.write_bytes(component)
        else:
            shutil.copyfile(component, unfinished)
        unfinished.replace(target)

    def deploy_all(self, components: Mapping[str, Path], namespace: str = "dev") -> None:
        for name, component in components.items():
            self.deploy(name, component, namespace)

    def remove(self, name: str, namespace: str = "dev") -> None:
        self.file(name, namespace).unlink()

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the surroundings but what a process needs."""
        defaults: dict[str, object] = {
            "kernel_address": "127.0.0.1:0",
            "metrics_address": "127.0.0.1:0",
            "wasmtime_cache_dir": self.artifacts,
            "namespace_update_interval": "1s",
        }
        settings = {key.upper(): str(value) for key, value in (defaults | self.settings).items()}
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        return {**kept, **settings}

    def start(self) -> KernelProcess:
        """Start a kernel without waiting for anything; the caller ends it."""
        self._started += 1
        log = self.folder / f"log-{self._started}.jsonl"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [COMMAND, "serve"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return KernelProcess(process, log)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[KernelProcess, None]:
        """A kernel that is ready. In the end it is told to stop, and has to exit with 0."""
        kernel = self.start()
        try:
            await kernel.ready()
            yield kernel
            if kernel.process.poll() is None:
                kernel.terminate()
                assert await kernel.exit() == 0, kernel.log()
            assert not kernel.tracebacks(), kernel.tracebacks()
        finally:
            kernel.kill()
            await kernel.close()


@contextlib.contextmanager
def temporary_home(**options: Any) -> Iterator[KernelHome]:
    """A home that is removed in the end: components are large."""
    with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as folder:
        yield KernelHome(Path(folder), **options)


class KernelProcess:
    """A kernel that was started, and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self._client: httpx.AsyncClient | None = None

    # --- the process

    async def ready(self) -> None:
        """Wait until ``/ready`` says so."""
        await self.listening()

        async def is_ready() -> bool:
            assert self.process.poll() is None, self.log()
            return (await self.client.get("/ready")).status_code == 200

        await until(is_ready, "the kernel is ready", seconds=_COMPILE_PATIENCE)

    async def listening(self) -> None:
        async def address() -> str | None:
            assert self.process.poll() is None, self.log()
            lines = (entry["message"] for entry in self.entries())
            return next((m for m in lines if m.startswith("Listening on: ")), None)

        host = (await until(address, "the kernel listens")).removeprefix("Listening on: ")
        self._client = httpx.AsyncClient(
            base_url=f"http://{host}",
            timeout=httpx.Timeout(PATIENCE * 4),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As a crash of the machine would; the process's children end with it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def exit(self, seconds: float = PATIENCE) -> int:
        """The exit status, once the process has ended."""

        async def ended() -> bool:
            return self.process.poll() is not None

        await until(ended, "the kernel exits", seconds=seconds)
        return self.process.wait()

    async def close(self) -> None:
        if self._client:
            await self._client.aclose()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def entries(self) -> list[dict[str, Any]]:
        """The log, which is one JSON object a line; a line that is still being written is left."""
        lines, _, _ = self.log().rpartition("\n")
        return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]

    def tracebacks(self) -> list[str]:
        """Parts of the log that only programming errors leave."""
        logged = [str(entry["exception"]) for entry in self.entries() if "exception" in entry]
        return [*logged, *re.findall("^Traceback.*", self.log(), re.S | re.M)]

    def messages(self) -> list[str]:
        return [entry["message"] for entry in self.entries()]

    # --- the client

    @property
    def client(self) -> httpx.AsyncClient:
        assert self._client, "the kernel does not listen yet"
        return self._client

    @property
    def url(self) -> str:
        return str(self.client.base_url)

    async def run(self, skill: str, input: Json = None, **options: Any) -> httpx.Response:
        """``POST .../run``; ``skill`` is in the namespace ``dev`` if it names none."""
        return await self._post(f"{_path(skill)}/run", input, **options)

    async def _post(self, path: str, input: Json, headers: Json = None) -> httpx.Response:
        return await self.client.post(
            path, content=json.dumps(input), headers=_JSON | (headers or {})
        )

    async def stream(self, skill: str, input: Json = None, **options: Any) -> Stream:
        """``POST .../message-stream``, read to its end."""
        return Stream(await self._post(f"{_path(skill)}/message-stream", input, **options))

    @contextlib.asynccontextmanager
    async def open_stream(self, skill: str, input: Json = None) -> AsyncGenerator[Live, None]:
        """The same while it comes in; leaving the block hangs up."""
        url = f"{_path(skill)}/message-stream"
        content = json.dumps(input)
        async with self.client.stream("POST", url, content=content, headers=_JSON) as response:
            yield Live(response)

    async def metadata(self, skill: str) -> httpx.Response:
        return await self.client.get(f"{_path(skill)}/metadata")

    async def detail(self, skill: str) -> dict[str, Any] | None:
        """What ``/v1/skills?detail=true`` says of one skill."""
        listing = (await self.client.get("/v1/skills", params={"detail": "true"})).json()
        return next((entry for entry in listing if entry["path"] == _full(skill)), None)

    async def components(self) -> dict[str, Any]:
        """What ``/ready`` says of the parts of the kernel."""
        return dict((await self.client.get("/ready")).json()["components"])

    async def engines(self) -> list[dict[str, Any]]:
        return list((await self.components())["engines"]["engines"])

    async def active_runs(self) -> int:
        return sum(engine["runs"] for engine in await self.engines())

    async def idle(self) -> None:
        """Wait until no run is in any engine."""

        async def none() -> bool:
            return await self.active_runs() == 0

        await until(none, "all runs have ended")


class Stream:
    """A message stream that is over, as ``events`` of name and data."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.events = parse_events(response.text) if self.status == 200 else []

    @property
    def text(self) -> str:
        return "".join(data["text"] for _, data in self.events if data.get("type") == "append")

    @property
    def last(self) -> tuple[str, dict[str, Any]]:
        return self.events[-1]

    @property
    def end(self) -> Json:
        """The payload of a stream that ended as it should."""
        name, data = self.last
        assert (name, data["type"]) == ("message", "end"), self.events
        return data["payload"]

    @property
    def error(self) -> dict[str, Any]:
        """The error that a stream ended with; there is none but the last event."""
        assert [name for name, _ in self.events].count("error") == 1, self.events
        name, data = self.last
        assert name == "error", self.events
        return data


class Live:
    """A message stream that is coming in."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(PATIENCE):
            lines = [await anext(self._lines) for _ in range(3)]
        ((name, data),) = parse_events("\n".join(lines) + "\n")
        return name, data


def parse_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events in exactly the framing that published clients insist on."""
    blocks = text.split("\n\n")
    assert blocks.pop() == "", f"the stream ends inside of an event: {text[-200:]!r}"
    events = []
    for block in blocks:
        name, data = block.split("\n")
        assert name.startswith("event: ") and data.startswith("data: "), block
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, which has to be a problem object (RFC 9457)."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert {"type", "title", "detail", "code", "fixable_by", "retryable"} <= body.keys()
    return response.status_code, body["code"]


def _full(skill: str) -> str:
    return skill if "/" in skill else f"dev/{skill}"


def _path(skill: str) -> str:
    return f"/v1/skills/{_full(skill)}"
