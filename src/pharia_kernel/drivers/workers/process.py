"""One worker process, seen from the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator
from typing import TypeVar

import msgspec
from msgspec import Struct

from pharia_kernel.drivers.workers.frames import LENGTH
from pharia_kernel.errors import InvalidCsiRequest

T = TypeVar("T")

_SLICE = 256 * 1024
"""Characters that are encoded and written at once."""


class ProcessLost(Exception):
    """The process ended before its answer did."""


class WorkerProcess:
    """For one caller at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout
        self._process = process
        self._input, self._output = process.stdin, process.stdout

    @classmethod
    async def start(cls, module: str, memory_limit: int) -> WorkerProcess:
        """Run a module that calls ``frames.serve``; ``memory_limit`` in bytes."""
        process = await asyncio.create_subprocess_exec(
            # -P: modules that lie in the working directory are none of ours.
            *(sys.executable, "-P", "-m", module, str(memory_limit)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={  # no secrets
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "TOKENIZERS_PARALLELISM": "false",  # there are as many processes as wanted
                "RUST_BACKTRACE": "0",
            },
            start_new_session=True,  # Ctrl-C is the kernel's business
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def send(self, question: Struct) -> None:
        """Raises ``ProcessLost``, as all that follow."""
        body = msgspec.msgpack.encode(question)
        await self._write(LENGTH.pack(len(body)) + body)

    async def send_text(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            await self._write(piece)

    async def receive(self, answer: msgspec.msgpack.Decoder[T]) -> T:
        try:
            (length,) = LENGTH.unpack(await self._output.readexactly(LENGTH.size))
            return answer.decode(await self._output.readexactly(length))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ProcessLost from error

    def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def ended(self) -> None:
        await self._process.wait()

    async def _write(self, data: bytes) -> None:
        try:
            self._input.write(data)
            await self._input.drain()
        except OSError as error:
            raise ProcessLost from error


async def encode(text: str) -> list[bytes]:
    """UTF-8 in pieces, between which the event loop gets its turn.

    Raises ``InvalidCsiRequest`` if the text isn't Unicode.
    """
    return [piece async for piece in _pieces(text)]


async def _pieces(text: str) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(text), _SLICE):
        try:
            yield text[start : start + _SLICE].encode()
        except UnicodeEncodeError as error:
            raise InvalidCsiRequest(
                f"`text` is not Unicode: character {start + error.start} is half of a "
                "surrogate pair."
            ) from None
        await asyncio.sleep(0)
