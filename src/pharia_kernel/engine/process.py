"""One engine process and the connection to it, on the kernel's side."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, Literal, cast

import msgspec
from msgspec import Raw, Struct

from pharia_kernel.engine.api import Artifact, Host, Refused, Returned, StreamItem
from pharia_kernel.engine.protocol import (
    VERSION,
    Call,
    Cancel,
    Consumed,
    Done,
    Emit,
    FrameReader,
    Load,
    Loaded,
    Output,
    ProtocolError,
    Ready,
    Reply,
    Start,
    ToEngine,
    ToKernel,
    Unload,
    encode,
)
from pharia_kernel.engine.traps import trap_error
from pharia_kernel.errors import (
    CompileFailed,
    EngineLost,
    KernelError,
    PayloadTooLarge,
    ShuttingDown,
    SkillNotReady,
)

log = logging.getLogger("pharia_kernel.engine")

_START_TIMEOUT = 30.0
_LOG_CHUNK = 16 << 10

_ENVIRONMENT = {
    "PATH": os.defpath,
    "RUST_BACKTRACE": "0",
    # A `list<u8>` crosses wasmtime's C API at 32 bytes an element, in several copies. By default
    # glibc gets that memory from the system for each run: page faults were half of the time that
    # 1 MiB took. So an engine keeps up to the second number of bytes of freed memory.
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}

_items = msgspec.msgpack.Decoder(StreamItem)


class EngineSettings(Struct, frozen=True, kw_only=True):
    max_runs: int
    memory_limit: int
    """Bytes per linear memory of a guest."""
    output_limit: int
    """Bytes of standard output and error kept per run."""
    pooling: bool = True
    tick_ms: int = 10
    """Length of a guest's time slice."""
    cancel_grace: float = 10.0
    """Seconds that an engine has to drop a guest before it is taken for stuck and killed."""


class ActiveRun:
    """A run that an engine holds; ends with ``outcome``."""

    def __init__(
        self,
        number: int,
        artifact: Artifact,
        host: Host,
        memory_limit: int,
        memory_setting: str = "skill-memory-limit",
    ) -> None:
        """``memory_limit`` is in bytes and comes from ``memory_setting``."""
        self.number = number
        self.artifact = artifact
        self.host = host
        self.outcome: asyncio.Future[Returned | Refused] = (
            asyncio.get_running_loop().create_future()
        )
        self.calls: set[asyncio.Task[None]] = set()
        self.stuck: asyncio.TimerHandle | None = None
        self._memory_limit = memory_limit
        self._memory_setting = memory_setting

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # whoever waited may be gone: that is no news

    def finish(self, done: Done) -> None:
        self.drop_calls()
        if self.stuck:
            self.stuck.cancel()
        if self.outcome.done():
            return
        if done.outcome == "returned":
            self.outcome.set_result(Returned(done.value))
            return
        text = done.value.decode(errors="replace")
        if done.outcome == "refused-internal":
            self.outcome.set_result(Refused("internal", text))
        elif done.outcome == "refused-invalid-input":
            self.outcome.set_result(Refused("invalid-input", text))
        elif done.outcome == "trapped":
            log.info("guest of %s trapped: %s", self.artifact.digest, text)
            self.fail(trap_error(text, self._memory_limit, self._memory_setting))
        else:
            self.outcome.cancel()

    def drop_calls(self) -> None:
        for task in self.calls:
            task.cancel()


class EngineProcess(asyncio.Protocol):
    """Start with ``start``; when the process has died, ``lost`` is done and all its runs have
    failed."""

    def __init__(self, index: int, settings: EngineSettings, freed: Callable[[], None]) -> None:
        """``freed`` is called whenever a run has left the engine."""
        self.index = index
        self.runs: dict[int, ActiveRun] = {}
        self.ready = False
        """Has loaded everything and takes runs."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.blamed: str | None = None
        """Digest of the component that was executing when the process crashed."""
        self._settings = settings
        self._freed = freed
        self._reader = FrameReader(ToKernel)
        self._greeted: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._loading: dict[str, asyncio.Future[str | None]] = {}
        self._consumed: dict[int, int] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._transport: asyncio.Transport | None = None
        self._killed = False
        self._last_run = 0
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    # --- life

    async def start(self) -> None:
        """Spawn the process and wait for its greeting; raises ``EngineLost``."""
        try:
            await self._spawn_process()
        except BaseException:
            self.kill()
            raise
        ends: set[asyncio.Future[Any]] = {self._greeted, self.lost}
        await asyncio.wait(ends, timeout=_START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not self._greeted.done():
            self.kill()
            raise EngineLost("An engine process did not start.")
        hello = self._greeted.result()
        log.info(
            "engine %d started: pid=%s pooling=%s network_namespace=%s",
            self.index, self.pid, hello.pooling, hello.isolated,
        )  # fmt: skip

    async def _spawn_process(self) -> None:
        loop = asyncio.get_running_loop()
        kernel_end, engine_end = socket.socketpair()
        with contextlib.ExitStack() as on_failure:
            on_failure.enter_context(kernel_end)
            with tempfile.TemporaryFile() as blame, engine_end:
                blame.truncate(mmap.PAGESIZE)
                self._blame = mmap.mmap(blame.fileno(), mmap.PAGESIZE)
                self._process = await self._execute(engine_end.fileno(), blame.fileno())
            self._watcher = loop.create_task(self._watch(self._process))
            await loop.create_unix_connection(lambda: self, sock=kernel_end)
            on_failure.pop_all()

    async def _execute(self, socket_fd: int, blame_fd: int) -> asyncio.subprocess.Process:
        arguments = (
            socket_fd,
            blame_fd,
            os.getpid(),
            self._settings.max_runs,
            int(self._settings.pooling),
            self._settings.tick_ms,
        )
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "pharia_kernel.engine.worker", *map(str, arguments),
            pass_fds=(socket_fd, blame_fd),
            env=_ENVIRONMENT,
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr
        # Not by lines: one that is too long would end the watch.
        while text := await process.stderr.read(_LOG_CHUNK):
            log.warning("engine %d: %s", self.index, text.decode(errors="replace").rstrip())
        code = await process.wait()
        self._died(code)

    def _died(self, code: int) -> None:
        self.ready = False
        crashed = code != 0 and (code != -signal.SIGKILL or self._killed)
        (number,) = struct.unpack_from("<Q", self._blame, 0)
        executing = self.runs.get(number)
        if crashed and executing:
            self.blamed = executing.artifact.digest
        if self._transport:
            self._transport.close()
        for run in self.runs.values():
            run.drop_calls()
            if run.stuck:
                run.stuck.cancel()
            run.fail(EngineLost("The engine process that ran the skill died; try again."))
        if self.runs or code:
            log.error(
                "engine %d (pid %s) died with status %d; %d runs lost%s",
                self.index, self.pid, code, len(self.runs),
                f"; {self.blamed} was executing" if self.blamed else "",
            )  # fmt: skip
        self.runs.clear()
        for loading in self._loading.values():
            if not loading.done():
                loading.cancel()
        if not self.lost.done():
            self.lost.set_result(None)

    def kill(self) -> None:
        """End the process at once; its runs fail."""
        self._killed = True
        if self._process and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """End the process; runs that are left fail."""
        self.ready = False
        for run in self.runs.values():
            run.fail(ShuttingDown("The kernel is shutting down."))
        if self._transport:
            self._transport.close()
        if self._watcher:
            try:
                await asyncio.wait_for(asyncio.shield(self.lost), 2)
            except TimeoutError:
                self.kill()
                await self.lost

    # --- components

    async def load(self, artifact: Artifact) -> str | None:
        """Load; the engine's reason if it can't. None as well if the engine dies meanwhile."""
        loading = self._loading.get(artifact.digest)
        if loading is None:
            loading = asyncio.get_running_loop().create_future()
            self._loading[artifact.digest] = loading
            self._send(Load(artifact.digest, str(artifact.path)))
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():
                return None
            raise

    def has(self, digest: str) -> bool:
        """Whether the component was loaded, or can't be: loading it is over."""
        loading = self._loading.get(digest)
        return self.lost.done() or (loading is not None and loading.done())

    def unload(self, digest: str) -> None:
        loading = self._loading.pop(digest, None)
        if loading and not loading.done():
            loading.set_result(None)
        self._send(Unload(digest))

    # --- runs

    def begin(
        self,
        artifact: Artifact,
        entry: Literal["run", "metadata"],
        input: bytes,
        host: Host,
        memory_limit: int | None = None,
    ) -> ActiveRun:
        """Raises ``CompileFailed`` or ``SkillNotReady`` if the component isn't there to run."""
        self._check_loaded(artifact.digest)
        self._last_run += 1
        limit, setting = self._settings.memory_limit, "skill-memory-limit"
        if memory_limit is not None and memory_limit < limit:
            limit, setting = memory_limit, "memory-limit"
        run = ActiveRun(self._last_run, artifact, host, limit, setting)
        start = Start(
            run.number,
            artifact.digest,
            entry,
            input,
            limit,
            self._settings.output_limit,
        )
        try:
            self._send(start)
        except ProtocolError as error:
            raise PayloadTooLarge(f"The input is too large to run a skill with: {error}.") from None
        self.runs[run.number] = run
        return run

    def _check_loaded(self, digest: str) -> None:
        loading = self._loading.get(digest)
        if loading is None or loading.cancelled():
            raise SkillNotReady("The skill is not loaded.", retry_after=1.0)
        if loading.done() and (reason := loading.result()):
            raise CompileFailed(f"The compiled component can't be loaded: {reason}.")

    def cancel(self, run: ActiveRun) -> None:
        """Drop the guest. Its place is free once the engine says so."""
        run.drop_calls()
        if run.number in self.runs and run.stuck is None:
            self._send(Cancel(run.number))
            run.stuck = asyncio.get_running_loop().call_later(
                self._settings.cancel_grace, self._is_stuck, run
            )

    def _is_stuck(self, run: ActiveRun) -> None:
        log.error("engine %d does not let go of run %d: killing it", self.index, run.number)
        self.kill()

    def _fail(self, run: ActiveRun, error: KernelError) -> None:
        run.fail(error)
        self.cancel(run)

    # --- frames

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._handle(frame)
        except ProtocolError as error:
            log.error("engine %d broke the protocol: %s", self.index, error)
            self.kill()

    def _send(self, frame: ToEngine) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(encode(frame))

    def _handle(self, frame: ToKernel) -> None:
        match frame:
            case Ready(version):
                if version != VERSION:
                    raise ProtocolError(f"engine speaks version {version}, the kernel {VERSION}")
                self._greeted.set_result(frame)
                return
            case Loaded(digest, error):
                loading = self._loading.get(digest)
                if loading and not loading.done():
                    loading.set_result(error)
                return
        run = self.runs.get(frame.run)
        if run is None:
            return
        if isinstance(frame, Done):
            del self.runs[run.number]
            self._consumed.pop(run.number, None)
            run.finish(frame)
            self._freed()
        elif not run.outcome.done():
            self._serve(run, frame)

    def _serve(self, run: ActiveRun, frame: Call | Emit | Output) -> None:
        try:
            match frame:
                case Call(_, number, function, arguments):
                    self._spawn(run, self._answer(run, number, function, bytes(arguments)))
                case Emit(_, item):
                    run.host.emit(_item(item), lambda: self._item_consumed(run.number))
                case Output(_, channel, data):
                    run.host.output(channel, data)
        except KernelError as error:
            self._fail(run, error)
        except ProtocolError:
            raise
        except Exception:
            log.exception("what run %d wrote could not be handled", run.number)
            self._fail(run, KernelError("What the skill wrote could not be handled."))

    def _spawn(self, run: ActiveRun, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        run.calls.add(task)
        task.add_done_callback(run.calls.discard)

    async def _answer(self, run: ActiveRun, number: int, function: str, arguments: bytes) -> None:
        try:
            value = await run.host.call(function, arguments)
            if number:
                self._send(Reply(run.number, number, Raw(value)))
        except KernelError as error:
            self._fail(run, error)
        except Exception:
            log.exception("system call %s failed", function)
            self._fail(run, KernelError(f"The system call `{function}` failed inside the kernel."))

    def _item_consumed(self, number: int) -> None:
        """Tell the engine, once per turn of the loop."""
        if not self._consumed:
            asyncio.get_running_loop().call_soon(self._send_consumed)
        self._consumed[number] = self._consumed.get(number, 0) + 1

    def _send_consumed(self) -> None:
        consumed, self._consumed = self._consumed, {}
        for number, items in consumed.items():
            if number in self.runs:
                self._send(Consumed(number, items))


def _item(data: Raw) -> StreamItem:
    try:
        item: StreamItem = _items.decode(data)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"undecodable stream item: {error}") from error
    return item
