"""An engine process: one thread, one loop, every invocation a suspended fiber.

It holds no credential, opens no socket, and has nothing but the socket to the kernel that it was
started with. ``python -m pharia_kernel.engine.worker SOCKET_FD BLAME_FD KERNEL_PID MAX_RUNS POOLING
TICK_MS``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import struct
import sys
import threading
import time
from collections import deque

from wasmtime import Engine, WasmtimeError

from pharia_kernel.engine import binding, sandbox
from pharia_kernel.engine.guest import LoadedComponent, Run
from pharia_kernel.engine.hostapi import HostApi
from pharia_kernel.engine.protocol import (
    VERSION,
    Cancel,
    Consumed,
    Done,
    FrameReader,
    Load,
    Loaded,
    Output,
    Ready,
    Reply,
    Start,
    ToEngine,
    ToKernel,
    Unload,
    encode,
)
from pharia_kernel.engine.signatures import SignatureMismatch
from pharia_kernel.engine.surface import STREAM_OUTPUT
from pharia_kernel.engine.values import UnsupportedType
from pharia_kernel.errors import SkillLoadError

_RECEIVE = 1 << 18
_WASI_POLL_FIRST = 0.00005
_WASI_POLL_LONGEST = 0.01
_WASI_POLL_SHARE = 0.0001
"""Seconds that each waiting guest adds to the longest interval, so that looking after many sleepers
does not keep the engine busy."""
_QUEUED = float("inf")
"""When to look again at a run that gets its turn anyway."""
_SHORTEST_POLL = 0.001
"""Seconds: the unit of ``poll``."""
_MAX_BACKLOG = 8 << 20
"""Bytes for the kernel that may be unsent while guests execute."""
_PREEMPTED_SHARE = 4
"""Of the guests that are ready, those that used up a time slice get every fourth turn at least."""

TRUNCATED = b"\n[output truncated]\n"


class KernelGone(Exception):
    """The kernel closed the socket."""


class Ticker(threading.Thread):
    """Starts an epoch every ``interval`` seconds while guests are executing."""

    def __init__(self, engine: Engine, interval: float) -> None:
        super().__init__(name="epoch-ticker", daemon=True)
        self._increment = binding.epoch_incrementer(engine)
        self._interval = interval
        self.ticks = 0
        self.active = threading.Event()

    def run(self) -> None:
        while True:
            self.active.wait()
            time.sleep(self._interval)
            self.ticks += 1
            self._increment()


class Channel:
    """Frames to and from the kernel over a non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(False)
        self._reader = FrameReader(ToEngine)
        self._outgoing: deque[memoryview] = deque()
        self.backlog = 0
        """Bytes that could not be sent yet."""
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def wait(self, timeout: float | None) -> bool:
        """Wait until frames can be read (true) or the time in seconds is over; writes what can be
        written."""
        self.flush()
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        if timeout is not None and 0 < timeout < _SHORTEST_POLL:
            time.sleep(timeout)
            timeout = 0
        # Rounded up: a timeout of zero would spin until the time has come.
        milliseconds = None if timeout is None else -int(-timeout * 1000)
        return any(event & ~select.POLLOUT for _, event in self._poll.poll(milliseconds))

    def receive(self) -> list[ToEngine]:
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return []
        except ConnectionError:
            raise KernelGone from None
        if not data:
            raise KernelGone
        return list(self._reader.feed(data))

    def send(self, frame: ToKernel) -> None:
        data = encode(frame)
        self._outgoing.append(memoryview(data))
        self.backlog += len(data)

    def flush(self) -> None:
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing[0])
            except BlockingIOError:
                return
            except ConnectionError:
                raise KernelGone from None
            self.backlog -= sent
            if sent == len(self._outgoing[0]):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = self._outgoing[0][sent:]


class Blame:
    """One shared word that says which run is executing, for the kernel to read after the process
    has died."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, mmap.PAGESIZE)
        self._word = struct.Struct("<Q")

    def set(self, run: int) -> None:
        self._word.pack_into(self._memory, 0, run)


class Worker:
    def __init__(self, channel: Channel, blame: Blame, engine: Engine, tick: float) -> None:
        self._channel = channel
        self._blame = blame
        self._engine = engine
        self._components: dict[str, LoadedComponent] = {}
        self._runs: dict[int, Run] = {}
        self._ready: deque[Run] = deque()
        self._preempted: deque[Run] = deque()
        self._waiting: dict[int, tuple[float, float]] = {}
        """Runs that wait for WASI (a clock): when to look again, and the time to the look after
        that."""
        self._printed: deque[tuple[int, str, bytes]] = deque()
        """What guests wrote; filled by a thread of wasmtime's, which may touch nothing else."""
        self._turn = 0
        self._ticker = Ticker(engine, tick)
        self._host = HostApi(engine, self)
        self._outputs = (
            binding.OutputCallback(lambda run, data: self._printed.append((run, "stdout", data))),
            binding.OutputCallback(lambda run, data: self._printed.append((run, "stderr", data))),
        )

    # --- what host functions use

    def get(self, run: int) -> Run | None:
        return self._runs.get(run)

    def send(self, frame: ToKernel) -> None:
        self._channel.send(frame)

    def _send_printed(self) -> None:
        while self._printed:
            run_id, channel, data = self._printed.popleft()
            run = self._runs.get(run_id)
            if run is None:
                continue
            due, _ = self._waiting.get(run_id, (_QUEUED, 0.0))
            if due != _QUEUED:  # it waits for this write, which is done
                self._waiting[run_id] = (time.monotonic(), _WASI_POLL_FIRST)
            if run.output_room > 0:
                self._send_output(run, channel, data)

    def _send_output(self, run: Run, channel: str, data: bytes) -> None:
        kept = data[: run.output_room]
        run.output_room -= len(kept)
        if len(kept) < len(data) or run.output_room == 0:
            run.output_room = 0
            kept += TRUNCATED
        self.send(Output(run.id, channel, kept))  # type: ignore[arg-type]

    # --- the loop

    def run(self) -> None:
        """Until the kernel closes the socket."""
        self._ticker.start()
        while True:
            if self._channel.wait(self._idle_time()):
                for frame in self._channel.receive():
                    self._handle(frame)
            self._send_printed()
            self._wake_wasi()
            run = self._next()
            if run is None:
                self._ticker.active.clear()
            else:
                self._ticker.active.set()
                self._step(run)

    def _idle_time(self) -> float | None:
        if self._channel.backlog > _MAX_BACKLOG:
            return None
        if self._ready or self._preempted:
            return 0
        if self._waiting:
            first = min(due for due, _ in self._waiting.values())
            return max(0.0, first - time.monotonic())
        return None

    def _wake_wasi(self) -> None:
        if self._waiting:
            now = time.monotonic()
            for run in [run for run, (due, _) in self._waiting.items() if due <= now]:
                self._ready.append(self._runs[run])
                # Stays listed, so that the next interval is known.
                self._waiting[run] = (_QUEUED, self._waiting[run][1])

    def _next(self) -> Run | None:
        if self._channel.backlog > _MAX_BACKLOG:
            return None  # the kernel can't keep up with what the guests send
        self._turn += 1
        if self._preempted and (not self._ready or self._turn % _PREEMPTED_SHARE == 0):
            return self._preempted.popleft()
        return self._ready.popleft() if self._ready else None

    def _step(self, run: Run) -> None:
        if self._runs.get(run.id) is not run:
            return  # cancelled while it was queued
        run.parked = False
        ticks = self._ticker.ticks
        self._blame.set(run.id)
        try:
            done = run.step()
        except Exception as error:
            done = Done(
                run.id, "trapped", f"{type(error).__name__}: {error}".encode(), run.guest_seconds
            )
        if done is not None:
            self._end(run, done)
        elif run.parked:
            self._waiting.pop(run.id, None)
        elif self._ticker.ticks != ticks:
            self._waiting.pop(run.id, None)
            self._preempted.append(run)
        else:
            self._wait_for_wasi(run)
        self._blame.set(0)

    def _wait_for_wasi(self, run: Run) -> None:
        """The guest is suspended, but not by us: it waits for a timer, of which only another poll
        will tell."""
        _, interval = self._waiting.get(run.id, (0.0, _WASI_POLL_FIRST))
        longest = max(_WASI_POLL_LONGEST, len(self._waiting) * _WASI_POLL_SHARE)
        self._waiting[run.id] = (time.monotonic() + interval, min(interval * 2, longest))

    def _end(self, run: Run, done: Done) -> None:
        self._send_printed()
        del self._runs[run.id]
        self._waiting.pop(run.id, None)
        self.send(done)
        self._channel.flush()  # the caller need not wait for the guest's memory to be given back
        run.close()

    # --- frames

    def _handle(self, frame: ToEngine) -> None:
        match frame:
            case Reply(run_id, call, value):
                run = self._runs.get(run_id)
                if run is not None:
                    run.reply(call, value)
                    self._resume(run)
            case Start():
                self._start(frame)
            case Consumed(run_id, items):
                run = self._runs.get(run_id)
                if run is not None:
                    run.consumed(items)
                    self._resume(run)
            case Cancel(run_id):
                run = self._runs.get(run_id)
                if run is not None:
                    self._blame.set(run.id)
                    self._end(run, Done(run.id, "cancelled", b"", run.guest_seconds))
                    self._blame.set(0)
            case Load(digest, path):
                self._load(digest, path)
            case Unload(digest):
                self._components.pop(digest, None)

    def _resume(self, run: Run) -> None:
        if run.parked:
            run.parked = False
            self._ready.append(run)

    def _start(self, start: Start) -> None:
        component = self._components.get(start.digest)
        if component is None:
            text = f"component {start.digest} is not loaded"
            self.send(Done(start.run, "trapped", text.encode(), 0.0))
            return
        number = self._host.resource_number(component.line, STREAM_OUTPUT)
        try:
            run = Run(start, component, self._engine, self._host.linker, number, self._outputs)
        except WasmtimeError as error:
            self.send(Done(start.run, "trapped", str(error).encode(), 0.0))
            return
        self._runs[run.id] = run
        self._ready.append(run)

    def _load(self, digest: str, path: str) -> None:
        error = None
        if digest not in self._components:
            try:
                self._components[digest] = LoadedComponent(self._engine, path)
            except (WasmtimeError, SignatureMismatch, UnsupportedType, SkillLoadError) as failure:
                error = str(failure)
        self.send(Loaded(digest, error))


def new_engine(max_runs: int, pooling: bool) -> tuple[Engine, bool]:
    """An engine, and whether it pools: it doesn't where the address space is too small for it."""
    if pooling:
        try:
            return binding.new_engine(binding.EngineOptions(True, max_runs)), True
        except WasmtimeError:
            pass
    return binding.new_engine(binding.EngineOptions(False, max_runs)), False


def main(arguments: list[str]) -> None:
    socket_fd, blame_fd, kernel_pid, max_runs, pooling, tick_ms = map(int, arguments)
    isolated = sandbox.enter(kernel_pid)
    engine, pooled = new_engine(max_runs, bool(pooling))
    channel = Channel(socket.socket(fileno=socket_fd))
    blame = Blame(blame_fd)

    def serve() -> None:
        worker = Worker(channel, blame, engine, tick_ms / 1000)
        channel.send(Ready(VERSION, pooled, isolated))
        worker.run()

    with contextlib.suppress(KernelGone):
        binding.run_inside_tokio(serve)
    # Guests may be suspended on fibers: the process has nothing to clean up that the system
    # doesn't.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
