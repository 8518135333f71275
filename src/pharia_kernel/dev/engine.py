"""The process that has one version of one source imported, on the kernel's side."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from pharia_kernel.engine.process import EngineProcess, EngineSettings
from pharia_kernel.engine.protocol import Call, ProtocolError, ToKernel
from pharia_kernel.engine.surface import NEWEST
from pharia_kernel.skills.output import logger as skill_log

log = logging.getLogger("pharia_kernel.dev")

NATIVE = Path(__file__).parent / "native"
_BOOT = f"""\
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "pharia_dev", {str(NATIVE / "__init__.py")!r}, submodule_search_locations=[{str(NATIVE)!r}]
)
sys.modules["pharia_dev"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from pharia_dev.server import main
main(sys.argv[1:])
"""
_LINE = 1 << 16


class Launch(Struct, frozen=True, kw_only=True):
    """How the processes of a session are started."""

    python: str = sys.executable
    """The author's Python, with the SDK and all that the skills import."""
    folder: Path
    """For what all processes of the session share."""
    terminal: bool = False
    """Whether ``breakpoint()`` finds a terminal to debug on."""
    debug_port: int | None = None
    """Where debuggers can attach by the debug adapter protocol (debugpy)."""

    def options(self) -> str:
        return msgspec.json.encode(
            {
                "folder": str(self.folder),
                "newest": NEWEST,
                "terminal": self.terminal,
                "debug_port": self.debug_port,
            }
        ).decode()


class Described(Struct, rename="kebab"):
    """What an import showed; members of the skill are missing if it failed."""

    files: list[str]
    """The author's modules."""
    kind: str | None
    wit_version: str | None
    input_schema: bytes | None
    section: bytes | None = None
    """What a component built from the source carries in the custom section for metadata."""


class SourceEngine(EngineProcess):
    """Runs one skill from its source. Besides the engines' frames it sends calls of no run: what it
    found in the source, what will be different in a component, and when it needs the terminal."""

    def __init__(
        self,
        index: int,
        settings: EngineSettings,
        skill: str,
        launch: Launch,
        hold_terminal: Callable[[bool], None],
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(index, settings, lambda: None)
        self.described: Described | None = None
        self._skill = skill
        self._launch = launch
        self._hold_terminal = hold_terminal
        self._warn = warn
        self._debugging = False

    async def _execute(self, socket_fd: int, blame_fd: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self._launch.python, "-P", "-c", _BOOT, str(socket_fd), self._launch.options(),
            pass_fds=(socket_fd,),
            env=dict(os.environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Log what the source prints while it is imported."""
        assert process.stderr
        rest = b""
        while data := await process.stderr.read(_LINE):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._print(line)
        self._print(rest)
        self._died(await process.wait())

    def _print(self, line: bytes) -> None:
        if line:
            text = line.decode(errors="replace")
            skill_log.info("[%s] %s", self._skill, text, extra={"skill": self._skill})

    def _handle(self, frame: ToKernel) -> None:
        if not isinstance(frame, Call) or frame.run:
            super()._handle(frame)
        elif frame.function == "dev#described":
            self.described = _argument(frame, Described)
        elif frame.function == "dev#warning":
            self._warn(_argument(frame, str))
        elif frame.function == "dev#terminal":
            self._debugging = _argument(frame, bool)
            self._hold_terminal(self._debugging)
        else:
            raise ProtocolError(f"there is no function `{frame.function[:100]}`")

    def _died(self, code: int) -> None:
        if self._debugging:
            self._hold_terminal(False)
        super()._died(code)


def _argument(frame: Call, type_: Any) -> Any:
    try:
        (value,) = msgspec.msgpack.decode(frame.args, type=tuple[type_])
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"undecodable argument of `{frame.function}`: {error}") from error
    return value
