"""What happens when an author saves a file."""

from __future__ import annotations

import asyncio

from tests.dev.support import Author, DevProcess
from tests.support.kernel import problem, until

SKILL = """\
from pharia_kernel_sdk import Csi, skill
from words import word

@skill
def say(csi: Csi, input: str) -> str:
    return {form}
"""
SLOW = """\
import time
from pathlib import Path
from pharia_kernel_sdk import Csi, MessageWriter, message_stream

@message_stream
def slow(csi: Csi, writer: MessageWriter[None], input: str) -> None:
    writer.begin_message()
    writer.append_to_message("{version}")
    while not Path(input).exists():
        time.sleep(0.02)
    writer.append_to_message(" to its end")
    writer.end_message()
"""


def words(author: Author, value: str) -> None:
    author.write("words.py", f"word = {value!r}\n")


async def test_good_broken_and_repaired_sources(folder: Author) -> None:
    source = folder.write("say.py", SKILL.format(form="word + input"))
    words(folder, "Hello ")
    async with folder.serving("say.py") as kernel:
        await kernel.answers("say", "Zoë", "Hello Zoë")

        words(folder, "Hi ")  # a module that the skill imports
        await kernel.answers("say", "Zoë", "Hi Zoë")
        await kernel.logged("say: reloaded in ")

        folder.write("say.py", SKILL.format(form="word + +"))
        await kernel.logged(f"{source}:6: SyntaxError: invalid syntax")
        await _fails(kernel, f"{source}:6: SyntaxError")
        await kernel.answers("say", "Zoë", "Hi Zoë")

        folder.write("say.py", "import missing_here\n" + SKILL.format(form="missing_here.WORD"))
        await kernel.logged(f"{source}:1: ModuleNotFoundError: No module named 'missing_here'")
        await kernel.logged("`missing_here` is neither beside the skill nor installed for ")
        folder.write("missing_here.py", "WORD = 'found'\n")  # repairs it without touching it
        await kernel.answers("say", "Zoë", "found")
        detail = await kernel.detail("say")
        assert detail and detail["error"] is None

        folder.write("say.py", SKILL.replace("input: str", "input").format(form="word"))
        await kernel.logged(f"\n{source}:4: `say` `input` has no type. Expected: def say(")


async def _fails(kernel: DevProcess, reason: str) -> None:
    """The skill's status says why, while the version before it serves."""

    async def told() -> bool:
        detail = await kernel.detail("say")
        assert detail and detail["status"] == "ready"
        return bool(detail["error"] and reason in detail["error"]["detail"])

    await until(told, "the status shows the error")


async def test_a_source_that_is_broken_from_the_start_and_then_repaired(folder: Author) -> None:
    words(folder, "Hello ")
    folder.write("say.py", "1 / 0\n")
    async with folder.serving("say.py") as kernel:
        await kernel.logged("say.py:1: ZeroDivisionError: division by zero\n    1 / 0")
        answer = await kernel.run("say", "Zoë")
        assert problem(answer) == (500, "source_broken")
        assert "say.py:1: ZeroDivisionError" in answer.json()["detail"]
        folder.write("say.py", SKILL.format(form="word + input"))
        await kernel.logged("/v1/skills/dev/say/run --json ")
        await kernel.answers("say", "Zoë", "Hello Zoë")


async def test_a_module_without_a_skill_and_one_with_two(folder: Author) -> None:
    words(folder, "")
    second = SKILL.format(form="word") + "\n@skill\ndef other(csi: Csi, input: str) -> str: ...\n"
    folder.write("none.py", "from pharia_kernel_sdk import Csi\n")
    folder.write("two.py", second)
    async with folder.serving("none.py", "two.py") as kernel:
        await kernel.logged("none.py: it has no skill. Decorate a function with `@skill`")
        await kernel.logged("two.py: it has 2 skills: `say`, `other`.")


async def test_an_interpreter_that_is_none(folder: Author) -> None:
    folder.write("say.py", SKILL.format(form="word"))
    async with folder.serving("say.py", "--python", "/bin/false") as kernel:
        await kernel.logged("/bin/false can't be started. Is it Python 3.11 or newer?")
        assert problem(await kernel.run("say", "x")) == (500, "source_broken")


async def test_a_source_that_is_deleted_and_comes_back(folder: Author) -> None:
    words(folder, "Hello ")
    source = folder.write("say.py", SKILL.format(form="word + input"))
    folder.write("other.py", SKILL.format(form="'other'"))
    async with folder.serving("say.py", "other.py") as kernel:
        await kernel.answers("say", "Zoë", "Hello Zoë")
        source.unlink()
        await kernel.logged("is gone; the skill is removed")

        async def gone() -> bool:
            return (await kernel.run("say", "Zoë")).status_code == 404

        await until(gone, "the skill is removed")
        await kernel.answers("other", "Zoë", "other")
        folder.write("say.py", SKILL.format(form="'back'"))

        async def back() -> bool:
            answer = await kernel.run("say", "Zoë")
            return answer.status_code == 200 and answer.json() == "back"

        await until(back, "the skill is there again")


async def test_runs_in_flight_finish_on_the_version_that_they_began_with(folder: Author) -> None:
    folder.write("slow.py", SLOW.format(version="old"))
    gate = folder.folder / "open"
    async with folder.serving("slow.py") as kernel:
        async with kernel.open_stream("slow", str(gate)) as stream:
            assert (await stream.next())[1]["type"] == "begin"
            assert (await stream.next())[1]["text"] == "old"
            folder.write("slow.py", SLOW.format(version="new"))
            await kernel.logged("slow: reloaded in ")
            gate.touch()
            assert (await stream.next())[1]["text"] == " to its end"
        assert (await kernel.stream("slow", str(gate))).text == "new to its end"

        async def one_process_is_left() -> bool:
            return len(kernel.children()) == 1

        await until(one_process_is_left, "the old version's process has ended")


async def test_many_edits_in_a_row_lose_no_run(folder: Author) -> None:
    words(folder, "0")
    folder.write("say.py", SKILL.format(form="word"))
    stop = asyncio.Event()

    async def load(kernel: DevProcess) -> set[str]:
        seen = set()
        while not stop.is_set():
            answer = await kernel.run("say", "x")
            assert answer.status_code == 200, answer.text
            seen.add(answer.json())
        return seen

    async with folder.serving("say.py") as kernel:
        callers = [asyncio.create_task(load(kernel)) for _ in range(2)]
        for number in range(1, 6):
            words(folder, str(number))
            await kernel.answers("say", "x", str(number))
        stop.set()
        seen = set.union(*await asyncio.gather(*callers))
        assert seen <= {str(number) for number in range(6)}
