"""Runs of sources: what they return, print, break, and rely on."""

from __future__ import annotations

import asyncio
import os

import psutil

from tests.dev.support import Author, DevProcess
from tests.support.kernel import PATIENCE, problem, until

MIXED = """\
import logging
import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from pharia_kernel_sdk import Csi, skill

HOME = os.environ.get("HOME")
count = 0
print("imported", file=sys.stderr)


@skill
def mixed(csi: Csi, input: str) -> int | float | str:
    global count
    count += 1
    if input == "print":
        print("printed")
        logging.getLogger("mine").warning("logged")
        os.write(1, b"written without a line break")
    if input == "much":
        print("x" * 200_000)
    if input == "crash":
        os.abort()
    if input == "exit":
        os._exit(3)
    if input == "memory":
        bytearray(4 << 30)
    if input == "loop":
        while True:
            pass
    if input == "random":
        return random.random()
    if input == "fail":
        raise KeyError("no such city")
    if input == "network":
        socket.socket().connect_ex(("127.0.0.1", 9))
    if input == "file":
        Path(__file__).read_text()
    if input == "process":
        subprocess.run(["true"])
    if input == "thread":
        threading.Thread(target=int).start()
    if input == "environment":
        os.getenv("LANG")
    if input == "dynamic":
        __import__("imaplib")
    if input == "static":
        import statistics
    if input == "breakpoint":
        breakpoint()
    return count
"""


def line(text: str) -> int:
    """Its number in the source."""
    return next(i for i, found in enumerate(MIXED.splitlines(), 1) if text in found)


async def outcome(kernel: DevProcess, input: str) -> tuple[int, str, str]:
    answer = await kernel.run("mixed", input)
    return *problem(answer), answer.json()["detail"]


async def test_runs(folder: Author) -> None:
    source = folder.write("mixed.py", MIXED)
    async with folder.serving("mixed.py", run_timeout="5s") as kernel:
        await kernel.answers("mixed", "", 1)
        await _is_marked(kernel)
        await _is_isolated(kernel)
        await _output_is_shown(kernel)
        await _breaks_alone(kernel)
        await _can_be_cancelled(kernel)
        await _tells_differences(kernel, str(source))


async def _is_marked(kernel: DevProcess) -> None:
    detail = await kernel.detail("mixed")
    assert detail
    assert (detail["sandboxed"], detail["kind"], detail["wit_version"]) == (
        False,
        "function",
        "0.4.0",
    )
    assert (await kernel.client.get("/ready")).status_code == 200


async def _is_isolated(kernel: DevProcess) -> None:
    """Every run begins with fresh modules, and other random numbers."""
    answers = await asyncio.gather(*(kernel.run("mixed", "") for _ in range(4)))
    assert [answer.json() for answer in answers] == [1, 1, 1, 1]
    drawn = [(await kernel.run("mixed", "random")).json() for _ in range(3)]
    assert len(set(drawn)) == 3


async def _output_is_shown(kernel: DevProcess) -> None:
    await kernel.logged("mixed import | imported")
    assert (await kernel.run("mixed", "print")).status_code == 200
    for text in ("printed", "logged", "written without a line break"):
        await kernel.logged(f" | {text}\n")
    assert (await kernel.run("mixed", "much")).status_code == 200
    await kernel.logged(" | [output truncated]\n")
    assert kernel.log().count("x") < 70_000


async def _breaks_alone(kernel: DevProcess) -> None:
    assert await outcome(kernel, "crash") == (
        500,
        "skill_crashed",
        "The skill crashed: its process was ended by SIGABRT.",
    )
    assert await outcome(kernel, "exit") == (
        500,
        "skill_crashed",
        "The skill ended its process with exit status 3.",
    )
    *_, detail = await outcome(kernel, "memory")
    assert detail == f"MemoryError\n  mixed.py:{line('bytearray(')} in mixed: bytearray(4 << 30)"
    status, code, detail = await outcome(kernel, "fail")
    assert (status, code) == (400, "skill_failed")
    assert detail == (
        f"KeyError: 'no such city'\n  mixed.py:{line('raise KeyError')} in mixed: "
        'raise KeyError("no such city")'
    )
    invalid = await kernel.run("mixed", 1)
    assert problem(invalid) == (400, "invalid_input")
    assert "$: expected a text, got the number 1" in invalid.json()["detail"]
    wrong_kind = await kernel.stream("mixed", "")
    assert problem(wrong_kind.response)[0] == 409


async def _can_be_cancelled(kernel: DevProcess) -> None:
    """By the deadline, and by a caller who hangs up; the process is gone with the run."""
    served = len(kernel.children())
    assert (await outcome(kernel, "loop"))[:2] == (504, "run_timed_out")
    run = asyncio.create_task(kernel.run("mixed", "loop"))

    async def is_running() -> bool:
        return len(kernel.children()) > served

    await until(is_running, "the run has a process")
    run.cancel()
    await asyncio.wait({run}, timeout=PATIENCE)

    async def is_gone() -> bool:
        return len(kernel.children()) == served

    await until(is_gone, "the process of the run has ended")
    await kernel.answers("mixed", "", 1)


async def _tells_differences(kernel: DevProcess, source: str) -> None:
    differences = {
        "import msgspec": "`msgspec._core`, which is compiled for this machine",
        "HOME = ": "the environment variable `HOME`",
        "connect_ex": "the network",
        "read_text": "the file `mixed.py`",
        "subprocess.run": "other processes",
        "threading.Thread": "threads",
        "os.getenv": "the environment variable `LANG`",
        "__import__": "`imaplib` being imported while the skill runs",
    }
    inputs = ("network", "file", "process", "thread", "environment", "dynamic", "static")
    for input in (*inputs, *inputs):
        await kernel.answers("mixed", input, 1)
    for code, what in differences.items():
        warning = f"mixed: {source}:{line(code)}: relies on {what}"
        await kernel.logged(warning)
        assert kernel.log().count(warning) == 1
    assert kernel.log().count(": relies on ") == len(differences)
    await kernel.answers("mixed", "breakpoint", 1)
    place = f"{source}:{line('breakpoint()')}"
    await kernel.logged(f"{place}: breakpoint() is passed over: there is no terminal")


async def test_the_process_of_a_source_is_started_again(folder: Author) -> None:
    folder.write("mixed.py", MIXED)
    async with folder.serving("mixed.py") as kernel:
        await kernel.answers("mixed", "", 1)
        (server,) = kernel.children()
        os.kill(server, 9)

        async def answers() -> bool:
            return (await kernel.run("mixed", "")).status_code == 200

        await until(answers, "the skill answers again")
        assert kernel.children() != [server]


async def test_a_kernel_that_is_killed_leaves_nothing_behind(folder: Author) -> None:
    folder.write("mixed.py", MIXED)
    async with folder.serving("mixed.py") as kernel:
        await kernel.answers("mixed", "", 1)
        run = asyncio.create_task(kernel.run("mixed", "loop"))

        async def is_running() -> bool:
            return len(kernel.children()) == 2

        await until(is_running, "the run has a process")
        children = kernel.children()
        kernel.kill()
        await asyncio.wait({run}, timeout=PATIENCE)

        async def all_gone() -> bool:
            return not any(map(psutil.pid_exists, children))

        await until(all_gone, "all processes have ended")


MODEL = """\
from pydantic import BaseModel
from pharia_kernel_sdk import Csi, skill

class Input(BaseModel):
    name: str

@skill
def modelled(csi: Csi, input: Input) -> str:
    return input.name
"""


async def test_what_pydantic_looks_for_is_no_difference(folder: Author) -> None:
    """It lists folders for plugins when the first model is defined."""
    folder.write("modelled.py", MODEL)
    async with folder.serving("modelled.py") as kernel:
        await kernel.answers("modelled", {"name": "Homer"}, "Homer")
        await kernel.logged("Skill executed successfully")
        assert "relies on" not in kernel.log()
