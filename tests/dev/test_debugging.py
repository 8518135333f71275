"""``breakpoint()`` on a real terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import subprocess
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx

from tests.dev.support import Author
from tests.support.kernel import PATIENCE, until

SKILL = """\
from pharia_kernel_sdk import Csi, skill

@skill
def halting(csi: Csi, input: str) -> str:
    answer = input.upper()
    print("before", input)
    if input != "free":
        breakpoint()
    return answer
"""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """The author's end of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.shown = ""
        os.set_blocking(descriptor, False)

    def read(self) -> str:
        try:
            while data := os.read(self._descriptor, 1 << 16):
                self.shown += _COLOURS.sub("", data.decode(errors="replace")).replace("\r", "")
        except OSError:  # nothing there, or the other end is closed
            pass
        return self.shown

    async def expect(self, text: str, times: int = 1) -> None:
        async def there() -> bool:
            return self.read().count(text) >= times

        await until(there, f"the terminal shows {text!r} {times} times")

    def type(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())


@asynccontextmanager
async def on_terminal(folder: Author, *options: str) -> AsyncGenerator[Terminal, None]:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(  # noqa: ASYNC220 (it does not wait)
        folder.command(*options),
        cwd=folder.folder,
        env=folder.environment({"term": "dumb"}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        yield terminal
        process.terminate()

        async def ended() -> bool:
            terminal.read()  # else it could wait for us
            return process.poll() is not None

        await until(ended, "the kernel exits")
        assert process.returncode == 0, terminal.shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


async def test_a_skill_is_debugged_while_others_wait(folder: Author) -> None:
    folder.write("halting.py", SKILL)
    async with on_terminal(folder, "halting.py") as terminal:
        await terminal.expect("/v1/skills/dev/halting/run --json")
        found = re.search(r"at (http://\S+)\n", terminal.shown)
        assert found
        async with httpx.AsyncClient(base_url=found[1], timeout=PATIENCE, trust_env=False) as http:

            async def run(input: str) -> httpx.Response:
                return await http.post("/v1/skills/dev/halting/run", json=input)

            first = asyncio.create_task(run("one"))
            await terminal.expect("(Pdb) ")
            second = asyncio.create_task(run("two"))
            free = await run("free")  # a run without a breakpoint waits for nobody
            assert free.json() == "FREE"
            assert "before free" not in terminal.read()  # the terminal is the debugger's
            terminal.type("p answer")
            await terminal.expect("'ONE'")
            assert not first.done()
            terminal.type("answer = 'changed'")
            await terminal.expect("(Pdb) ", times=3)
            terminal.type("c")
            assert (await first).json() == "changed"
            await terminal.expect("before free")

            await terminal.expect("(Pdb) ", times=4)
            terminal.type("q")
            answer = await second
            assert answer.status_code == 400
            assert "BdbQuit" in answer.json()["detail"]

            third = asyncio.create_task(run("three"))
            await terminal.expect("(Pdb) ", times=5)
            third.cancel()  # the terminal is free again, although nobody has let the run go on
            assert (await run("free")).json() == "FREE"
            await terminal.expect("before free", times=2)
