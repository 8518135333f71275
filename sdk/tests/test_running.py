"""``pharia-sdk run``: the same skills as sources, as components, and in a kernel."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from publishing_support import sdk
from sdk_components import SKILLS, component
from tests.support.kernel import KernelProcess

from pharia_kernel_sdk.csi.inference import ChatRequest, ChatResponse
from pharia_kernel_sdk.running.component import ComponentSkill, SkillComponent
from pharia_kernel_sdk.testing import StubCsi
from pharia_kernel_sdk.transport import CsiError

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300, func_only=True)]

NOBODY = "http://127.0.0.1:9"
PLACES = ("source", "component", "deployed")


@dataclass
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass
class Commands:
    """``pharia-sdk run`` for a skill of the tests, wherever it is."""

    kernel: KernelProcess
    folder: Path

    async def run(self, place: str, skill: str, *arguments: str, input: str = "") -> Ran:
        kernel = ("--kernel", self.kernel.url)
        if place == "source":
            return await call("run", f"{skill}.py", *arguments, *kernel, input=input)
        wasm = place == "component"
        named = str(await asyncio.to_thread(component, skill)) if wasm else f"dev/{skill}"
        result = await asyncio.to_thread(sdk, "run", named, *arguments, *kernel, input=input)
        return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def commands(kernel: KernelProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(kernel, tmp_path)


async def call(*arguments: str, input: str = "", folder: Path = SKILLS) -> Ran:
    """In a process of its own, because sources are imported into it."""

    def wait() -> Ran:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pharia_kernel_sdk", *arguments],
            input=input,
            cwd=folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(wait)


@pytest.mark.parametrize("place", PLACES)
async def test_a_function_has_an_output(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "greet", '{"name": "Jörg"}')
    assert (ran.status, ran.out) == (0, '"Hello Jörg"\n')


@pytest.mark.parametrize("place", PLACES)
async def test_a_stream_is_text_and_the_rest_is_beside_it(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "story", '{"mode": "fixed"}')
    assert (ran.status, ran.out) == (0, "Once upon a time\n")
    assert ran.err.endswith('hm\npayload: {"finish_reason": "stop"}\n')


@pytest.mark.parametrize("place", PLACES)
async def test_the_items_of_a_stream_as_json(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "story", '{"mode": "fixed"}', "--json")
    begin, *items = [json.loads(line) for line in ran.out.splitlines()]
    assert (begin["event"], begin["type"]) == ("message", "begin")
    assert items == [
        {"event": "reasoning", "type": "reasoning", "text": "hm"},
        {"event": "message", "type": "append", "text": "Once "},
        {"event": "message", "type": "append", "text": "upon a time"},
        {"event": "message", "type": "end", "payload": {"finish_reason": "stop"}},
    ]


@pytest.mark.parametrize("place", PLACES)
async def test_what_was_written_before_an_error_is_there(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "story", '{"mode": "broken"}')
    assert (ran.status, ran.out) == (1, "Once \n")
    assert "Error: RuntimeError: the plot is lost" in ran.err
    assert 'in story: raise RuntimeError("the plot is lost")' in ran.err
    # A component prints all of it, for the log.
    assert ("Traceback" in ran.err) == (place == "component")


@pytest.mark.parametrize("place", PLACES)
async def test_an_input_that_does_not_fit(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "greet", '{"name": ""}')
    assert (ran.status, ran.out) == (1, "")
    assert "name" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("place", PLACES)
async def test_a_failure_shows_the_authors_lines(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "faulty", '"deep"')
    assert (ran.status, ran.out) == (1, "")
    assert "lib/deep.py:2 in fail: raise KeyError(text)" in ran.err


@pytest.mark.parametrize("place", ["source", "component"])
async def test_what_a_skill_prints_is_not_its_output(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "faulty", '"print"')
    assert "a line of output" in ran.err
    assert "random" in json.loads(ran.out)


@pytest.mark.parametrize("place", ["source", "component"])
async def test_tools_are_those_of_the_namespace(commands: Commands, place: str) -> None:
    ran = await commands.run(place, "tour", '{"call": "tools", "model": "m"}', "--namespace", "dev")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)[0] == "2"
    assert "tool add\n" in ran.err
    assert "tool add: ok\n" in ran.err
    assert "tool saboteur: Out of cheese." in ran.err


async def test_input_from_a_file_and_from_standard_input(commands: Commands) -> None:
    (commands.folder / "anna.json").write_text('{"name": "Anna"}')
    from_file = await commands.run("deployed", "greet", "@anna.json")
    assert from_file.out == '"Hello Anna"\n'
    piped = await commands.run("deployed", "greet", input='{"name": "Otto"}')
    assert piped.out == '"Hello Otto"\n'
    dash = await commands.run("deployed", "greet", "-", input='{"name": "Ida"}')
    assert dash.out == '"Hello Ida"\n'
    nothing = await commands.run("deployed", "greet")
    assert nothing.status == 1


@pytest.mark.parametrize(
    ("input_", "message"),
    [
        ("Anna", "The input is no JSON: Expecting value: line 1 column 1 (char 0). A text has "),
        ("@nothing.json", "nothing.json can't be read:"),
        ("@half.json", "half.json is no JSON:"),
        ('"\udcff"', "The input is no JSON: 'utf-8' codec can't encode"),
    ],
)
async def test_input_that_is_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, input_: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "half.json").write_text('{"name": ')
    result = sdk("run", "dev/greet", input_, "--kernel", NOBODY)
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("skill", "message"),
    [
        ("dev/greet", "No answer from the kernel at http://127.0.0.1:9"),
        ("nothing.py", "There is no file nothing.py"),
        ("nothing.wasm", "There is no file nothing.wasm"),
        ("nothing", "There is no skill `nothing`"),
        ("./nothing", "There is no skill `./nothing`"),
    ],
)
async def test_skills_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skill: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = sdk("run", skill, "{}", "--kernel", NOBODY)
    assert result.exit_code == 1
    assert message in result.stderr


async def test_the_kernel_does_not_know_the_skill(commands: Commands) -> None:
    ran = await commands.run("deployed", "nobody", "{}")
    assert ran.status == 1
    assert "The kernel answers 404" in ran.err


async def test_a_source_that_asks_a_kernel_which_is_not_there() -> None:
    ran = await call("run", "tour.py", '{"call": "chat", "model": "m"}', "--kernel", NOBODY)
    assert (ran.status, ran.out) == (1, "")
    assert "chat: no answer from the kernel at http://127.0.0.1:9" in ran.err
    assert "Start one, or name another with --kernel" in ran.err


async def test_a_source_that_can_not_be_imported(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    (tmp_path / "json.py").write_text("")
    broken = await call("run", "broken.py", "1", folder=tmp_path)
    assert broken.status == 1
    assert "broken.py:1: ModuleNotFoundError: No module named 'nothing_of_the_kind'" in broken.err
    taken = await call("run", "json.py", "1", folder=tmp_path)
    assert taken.status == 1
    assert "There is a module `json` in Python already" in taken.err


class Refusing(StubCsi):
    """Refuses in several threads at the same time, each for a reason of its own."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self._barrier = barrier

    def chat_concurrent(self, requests: Sequence[ChatRequest]) -> list[ChatResponse]:
        self._barrier.wait(60)
        raise CsiError(f"refused to {requests[0].model}")


async def test_runs_of_a_component_do_not_mix_up_their_failures() -> None:
    compiled = SkillComponent(await asyncio.to_thread(component, "tour"))
    both = ComponentSkill(compiled, Refusing(threading.Barrier(2)))

    def run(model: str) -> str:
        with pytest.raises(CsiError) as raised:
            both.run(json.dumps({"call": "chat", "model": model}).encode())
        return str(raised.value)

    def all_runs() -> list[Any]:
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(run, ("one", "other") * 5))

    answers = await asyncio.to_thread(all_runs)
    assert answers == ["refused to one", "refused to other"] * 5
