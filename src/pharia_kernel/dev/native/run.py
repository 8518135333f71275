"""One run of a skill, in a process of its own that was forked for it."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .frames import Bodies, frame, pack, unpack
from .sdks import Skill

WINDOW_ITEMS = 64
WINDOW_BYTES = 1 << 20
"""How far a skill may be ahead of the client that reads its stream; as for components."""
MAX_OPEN_STREAMS = 256
_RECEIVE = 1 << 18


class Host:
    """The system calls of the run that this process has been forked for.

    There is one per process, and bindings are bound to it before anybody knows the run; ``attach``
    tells it.
    """

    def __init__(self) -> None:
        self.run = 0
        self._socket: socket.socket | None = None
        self._bodies = Bodies()
        self._early: deque[bytes] = deque()
        self._lock = threading.RLock()
        self._calls = 0
        self._streams: dict[int, deque[Any]] = {}
        self._window: deque[int] = deque()

    def attach(self, run: int, sock: socket.socket) -> None:
        self.run, self._socket = run, sock

    def send(self, *parts: Any) -> None:
        """A frame, to the process that forked this one."""
        if self._socket is None:
            raise RuntimeError("The CSI can be used while the skill runs, not while it is imported")
        self._socket.sendall(frame(*parts))

    # --- what bindings use

    def call(self, function: str, arguments: list[Any]) -> Any:
        with self._lock:
            return self._ask(function, arguments)

    def open(self, function: str, arguments: list[Any]) -> int:
        with self._lock:
            if len(self._streams) >= MAX_OPEN_STREAMS:
                raise RuntimeError(f"more than {MAX_OPEN_STREAMS} streams are open")
            self._calls += 1
            handle = self._calls
            self._streams[handle] = deque()
            self.send("call", self.run, 0, function, [handle, *arguments])
            return handle

    def next(self, function: str, handle: int) -> Any:
        with self._lock:
            early = self._streams[handle]
            if not early:
                early.extend(self._ask(function, [handle]))
            return early.popleft() if early else None

    def drop(self, function: str, handle: int) -> None:
        with self._lock:
            if self._streams.pop(handle, None) is not None:
                self.send("call", self.run, 0, function, [handle])

    def write(self, item: Any) -> None:
        with self._lock:
            self.send("emit", self.run, item)
            self._window.append(len(pack(item)))
            while len(self._window) >= WINDOW_ITEMS or sum(self._window) >= WINDOW_BYTES:
                self._receive()

    # --- frames

    def _ask(self, function: str, arguments: list[Any]) -> Any:
        self._calls += 1
        number = self._calls
        self.send("call", self.run, number, function, arguments)
        while True:
            answer = self._receive()
            if answer is not None and answer[0] == number:
                return answer[1]

    def _receive(self) -> tuple[int, Any] | None:
        """The next frame: number and value of a reply; None for what makes room in the window."""
        assert self._socket
        while not self._early:
            data = self._socket.recv(_RECEIVE)
            if not data:
                os._exit(1)  # the kernel is gone
            self._early.extend(self._bodies.feed(data))
        tag, _, *rest = unpack(self._early.popleft())
        if tag == "reply":
            return rest[0], rest[1]
        for _ in range(min(rest[0], len(self._window))):
            self._window.popleft()
        return None


def execute(skill: Skill, entry: str, input_: bytes) -> tuple[str, bytes]:
    """Outcome and value, as ``engine.protocol.Done`` has them."""
    try:
        input_.decode()
    except UnicodeDecodeError as flaw:
        text = f"it is not UTF-8: {flaw.reason} at byte {flaw.start}"
        return "refused-invalid-input", text.encode()
    try:
        if entry == "metadata":
            return "returned", _metadata(skill)
        return "returned", skill.run(input_)
    except BaseException as error:
        return _refusal(error) or ("trapped", _trap(error))


def _metadata(skill: Skill) -> bytes:
    metadata = skill.metadata()
    return pack(
        {
            "description": metadata.description,
            "input-schema": metadata.input_schema,
            "output-schema": metadata.output_schema,
        }
    )


def _refusal(error: BaseException) -> tuple[str, bytes] | None:
    """What a handler raises on purpose: ``Err`` of the bindings, with the case of its error."""
    case = type(getattr(error, "value", None)).__name__
    if type(error).__name__ != "Err" or not case.startswith("Error_"):
        return None
    kind = "invalid-input" if case == "Error_InvalidInput" else "internal"
    return f"refused-{kind}", str(error.value.value).encode("utf-8", "replace")  # type: ignore[attr-defined]


def _trap(error: BaseException) -> bytes:
    """Worded so that the kernel tells what it tells of a component."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return f"Exited with i32 exit status {code}".encode()
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"wasm trap: uncaught {reason}".encode("utf-8", "replace")


def limit_memory(bytes_: int) -> None:
    """The run may use so much more than the process has."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + bytes_, used + bytes_))


def main(
    host: Host,
    skill: Skill,
    entry: str,
    input_: bytes,
    memory_limit: int,
    prepare: Callable[[], None],
) -> None:
    """Run, tell the outcome, and end the process."""
    began = time.process_time()
    limit_memory(memory_limit)
    random.seed()  # else all runs would draw the same
    prepare()
    outcome, value = execute(skill, entry, input_)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    host.send("done", host.run, outcome, value, time.process_time() - began)
