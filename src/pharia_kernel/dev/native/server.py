"""The process that has the author's source imported: it forks one of its own for every run.

So each run begins with the same fresh modules, as a component's does, can crash alone, and is
cancelled by killing it. This process only passes frames on.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from . import run
from .debugging import Breakpoints
from .differences import Differences
from .frames import LENGTH, Bodies, frame, tag_of, unpack
from .loading import Author, Broken
from .sdks import NoSkill, Skill, Surroundings, skill_in

PROTOCOL = 1
"""``engine.protocol.VERSION``."""
_RECEIVE = 1 << 18
_KERNELS_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""They go to all processes of a terminal; the kernel acts on them, and closes the socket."""
_TRUNCATED = b"\n[output truncated]\n"


class Options:
    """What the kernel tells when it starts the process."""

    def __init__(self, text: str) -> None:
        given = json.loads(text)
        self.folder = Path(given["folder"])
        """Of the session: for what all its processes share."""
        self.newest: dict[str, str] = given["newest"]
        self.breakpoints = Breakpoints(
            self.folder / "debugger.lock", given["terminal"], given["debug_port"]
        )


class Guest:
    """A run, and the process that it has."""

    def __init__(self, number: int, pid: int, sock: socket.socket, output_room: int) -> None:
        self.number = number
        self.pid = pid
        self.sock = sock
        self.bodies = Bodies()
        self.outputs: dict[int, str] = {}
        """Pipes that it prints to."""
        self.output_room = output_room
        self.began = time.monotonic()

    def close(self) -> None:
        self.sock.close()
        for pipe in self.outputs:
            os.close(pipe)


class Server:
    """Serves one version of one source until the kernel closes the socket."""

    def __init__(self, kernel: socket.socket, options: Options) -> None:
        self._kernel = kernel
        self._options = options
        self._bodies = Bodies()
        self._guests: dict[int, Guest] = {}
        self._selector = selectors.DefaultSelector()
        self._host = run.Host()
        self._skill: Skill | None = None
        self._differences: Differences | None = None
        self._debugged: Guest | None = None
        """The run that has the terminal."""
        self._warn: Callable[[str], None] = lambda text: self._tell("warning", text)

    def serve(self) -> None:
        self._selector.register(self._kernel, selectors.EVENT_READ, self._from_kernel)
        try:
            self._send("ready", PROTOCOL, False, False)
            while True:
                self._handle_events()
        except (BrokenPipeError, ConnectionResetError):
            self._leave()  # the kernel was killed

    def _handle_events(self) -> None:
        for key, _ in self._selector.select():
            # What was handled before may have closed it, and opened another by its number.
            if self._selector.get_map().get(key.fileobj) is key:
                key.data()

    def _send(self, *parts: Any) -> None:
        self._kernel.sendall(frame(*parts))

    def _tell(self, what: str, argument: Any) -> None:
        """A call of no run, which is no part of the engines' protocol."""
        self._send("call", 0, 0, f"dev#{what}", [argument])

    # --- the kernel's frames

    def _from_kernel(self) -> None:
        data = self._kernel.recv(_RECEIVE)
        if not data:
            self._leave()
        for body in self._bodies.feed(data):
            self._handle(body)

    def _handle(self, body: bytes) -> None:
        match tag_of(body):
            case "load":
                _, digest, path = unpack(body)
                self._load(digest, Path(path))
            case "start":
                self._start(*unpack(body)[1:])
            case "cancel":
                self._cancel(unpack(body)[1])
            case "reply" | "consumed":
                guest = self._guests.get(_run_of(body))
                if guest:
                    with contextlib.suppress(OSError):  # it has just ended
                        guest.sock.sendall(LENGTH.pack(len(body)) + body)

    def _load(self, digest: str, path: Path) -> None:
        author = Author(path)
        self._differences = Differences(author, lambda text: self._warn(text))
        try:
            self._differences.install()
            self._skill = self._imported(author)
        except Broken as error:
            self._describe(author, None)
            self._send("loaded", digest, str(error))
            return
        self._describe(author, self._skill)
        # Forked processes then share this memory instead of copying it.
        gc.collect()
        gc.freeze()
        self._send("loaded", digest, None)

    def _imported(self, author: Author) -> Skill:
        module = author.load()
        around = Surroundings(self._host, self._options.folder, self._options.newest)
        try:
            return skill_in(module, author, around)
        except NoSkill as error:
            raise Broken(f"{author.file}: {error}.") from error

    def _describe(self, author: Author, skill: Skill | None) -> None:
        """To be told before ``loaded``."""
        described = {
            "files": author.files,
            "kind": skill.kind if skill else None,
            "wit-version": skill.wit_version if skill else None,
            "input-schema": json.dumps(skill.input_schema).encode() if skill else None,
            "section": json.dumps(skill.section).encode() if skill and skill.section else None,
        }
        self._tell("described", described)

    # --- runs

    def _start(
        self, number: int, _: str, entry: str, input_: bytes, memory_limit: int, output_limit: int
    ) -> None:
        assert self._skill
        ours, theirs = socket.socketpair()
        pipes = {"stdout": os.pipe(), "stderr": os.pipe()}
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._become_guest(number, theirs, pipes)
            run.main(self._host, self._skill, entry, input_, memory_limit, lambda: self._prepare())
            os._exit(0)
        theirs.close()
        guest = Guest(number, pid, ours, output_limit)
        self._guests[number] = guest
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._from_guest(guest))
        for channel, (reading, writing) in pipes.items():
            os.close(writing)
            os.set_blocking(reading, False)
            guest.outputs[reading] = channel
            self._selector.register(
                reading, selectors.EVENT_READ, lambda pipe=reading: self._printed(guest, pipe)
            )

    def _become_guest(
        self, number: int, sock: socket.socket, pipes: dict[str, tuple[int, int]]
    ) -> None:
        self._selector.close()
        self._kernel.close()
        for other in self._guests.values():
            other.close()
        for descriptor, (reading, writing) in enumerate(pipes.values(), start=1):
            os.dup2(writing, descriptor)
            os.close(reading)
            os.close(writing)
        self._host.attach(number, sock)

    def _prepare(self) -> None:
        die_with_parent()
        host = self._host
        self._warn = lambda text: host.send("warning", text)
        if self._differences:
            self._differences.running = True
        self._options.breakpoints.install(
            lambda held: host.send("terminal", held), lambda text: host.send("warning", text)
        )

    def _from_guest(self, guest: Guest) -> None:
        try:
            data = guest.sock.recv(_RECEIVE)
        except ConnectionError:
            data = b""
        if not data:
            self._died(guest)
            return
        for body in guest.bodies.feed(data):
            self._pass_on(guest, body)

    def _pass_on(self, guest: Guest, body: bytes) -> None:
        match tag_of(body):
            case "done":
                self._end(guest)
                self._kernel.sendall(LENGTH.pack(len(body)) + body)
            case "warning":
                self._tell("warning", unpack(body)[1])
            case "terminal":
                self._debugged = guest if unpack(body)[1] else None
                self._tell("terminal", self._debugged is not None)
            case _:
                self._kernel.sendall(LENGTH.pack(len(body)) + body)

    def _printed(self, guest: Guest, pipe: int) -> None:
        """Read what there is; the end of a pipe is nothing to be told."""
        while True:
            try:
                data = os.read(pipe, _RECEIVE)
            except BlockingIOError:
                return
            if not data:
                if pipe in self._selector.get_map():
                    self._selector.unregister(pipe)
                return
            self._output(guest, guest.outputs[pipe], data)

    def _output(self, guest: Guest, channel: str, data: bytes) -> None:
        if guest.output_room <= 0:
            return
        kept = data[: guest.output_room]
        guest.output_room -= len(kept)
        if len(kept) < len(data) or guest.output_room == 0:
            guest.output_room = 0
            kept += _TRUNCATED
        self._send("output", guest.number, channel, kept)

    def _cancel(self, number: int) -> None:
        if guest := self._guests.get(number):
            self._end(guest)
            self._done(guest, "cancelled", b"")

    def _died(self, guest: Guest) -> None:
        status = self._end(guest)
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            text = f"wasm trap: its process was ended by {name}"
        else:
            text = f"Exited with i32 exit status {os.WEXITSTATUS(status)}"
        self._done(guest, "trapped", text.encode())

    def _done(self, guest: Guest, outcome: str, value: bytes) -> None:
        self._send("done", guest.number, outcome, value, time.monotonic() - guest.began)

    def _end(self, guest: Guest) -> int:
        """Whatever it still does; the status of its process."""
        if self._debugged is guest:
            self._debugged = None
            self._tell("terminal", False)
        pid, status = os.waitpid(guest.pid, os.WNOHANG)
        if not pid:
            os.kill(guest.pid, signal.SIGKILL)
            _, status = os.waitpid(guest.pid, 0)
        for pipe in guest.outputs:
            self._printed(guest, pipe)
            if pipe in self._selector.get_map():
                self._selector.unregister(pipe)
        self._selector.unregister(guest.sock)
        guest.close()
        del self._guests[guest.number]
        return status

    def _leave(self) -> NoReturn:
        for guest in self._guests.values():
            os.kill(guest.pid, signal.SIGKILL)
        os._exit(0)


def _run_of(body: bytes) -> int:
    """The second element of a frame, which is a number, without decoding those after it."""
    at = 2 + (body[1] & 0x1F)
    return int(unpack(body[at : at + 9].ljust(9, b"\0")))


def die_with_parent() -> None:
    """Where the system offers it (Linux)."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def main(arguments: list[str]) -> None:
    """``SOCKET_FD OPTIONS``, the latter in JSON."""
    for number in _KERNELS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.dup2(2, 1)
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    die_with_parent()
    options = Options(arguments[1])
    Server(socket.socket(fileno=int(arguments[0])), options).serve()
