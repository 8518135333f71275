"""``pharia-sdk eval``: cases, and what becomes of them."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from publishing_support import sdk
from sdk_components import component
from tests.support.kernel import KernelProcess

from pharia_kernel_sdk.publishing.errors import KernelError
from pharia_kernel_sdk.running.cases import Case, CasesError, read_cases
from pharia_kernel_sdk.running.errors import InvalidInputError
from pharia_kernel_sdk.running.evaluation import evaluate
from pharia_kernel_sdk.running.results import Streamed
from pharia_kernel_sdk.running.skill import Listener, TellingRecorder, nobody

pytestmark = pytest.mark.timeout(300, func_only=True)

PATIENCE = 60


class Function:
    """A skill that does what a test says."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def run(self, input_: bytes, listener: Listener = nobody) -> Any:
        return self._function(json.loads(input_))


def written(folder: Path, *lines: str) -> Path:
    file = folder / "cases.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def streamed(text: str, payload: Any) -> Streamed:
    recorder = TellingRecorder()
    recorder.begin_message()
    recorder.append_to_message(text)
    recorder.end_message(payload)
    return Streamed.of(recorder)


# --- cases


def test_a_case_per_line(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '{"name": "anna", "input": {"name": "Anna"}, "expected": "Hello Anna"}',
        "",
        '{"input": "a\u2028b", "contains": "one piece"}',
        '{"input": null, "contains": ["one", "other"], "schema": {"type": "string"}}',
    )
    anna, line, null = read_cases(file)
    assert (anna.name, anna.input, anna.expected) == ("anna", {"name": "Anna"}, "Hello Anna")
    assert (line.name, line.input, line.contains) == ("line 3", "a\u2028b", ("one piece",))
    assert (null.data(), null.contains) == (b"null", ("one", "other"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "cases.jsonl:1: this is no JSON"),
        ("[]", 'cases.jsonl:1: a case is an object with an "input"'),
        ('{"expected": 1}', 'cases.jsonl:1: a case is an object with an "input"'),
        ('{"input": 1, "expects": 1}', "cases.jsonl:1: a case has no `expects`"),
        ('{"input": 1, "contains": [1]}', "cases.jsonl:1: `contains` is a text, or a list"),
        ('{"input": 1, "schema": {"type": "txt"}}', "cases.jsonl:1: `schema` is no JSON Schema"),
        ("", "cases.jsonl has no case"),
    ],
)
def test_lines_that_make_no_sense(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(CasesError) as raised:
        read_cases(written(tmp_path, line))
    assert message in str(raised.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match="can't be read"):
        read_cases(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize(
    ("expectation", "output"),
    [
        ({}, None),
        ({"expected": None}, None),
        ({"expected": 1}, 1.0),
        ({"expected": {"a": [1, True]}}, {"a": [1, True]}),
        ({"contains": ("Hello", "Anna")}, "Hello Anna"),
        ({"contains": ('"a": "ü"',)}, {"a": "ü"}),
        ({"schema": {"type": "object", "required": ["a"]}}, {"a": 1}),
        ({"expected": "text", "schema": {"required": ["end"]}}, streamed("text", {"end": 1})),
    ],
)
def test_outputs_that_are_as_expected(expectation: dict[str, Any], output: Any) -> None:
    assert Case("case", None, **expectation).problems(output) == []


@pytest.mark.parametrize(
    ("expectation", "output", "problem"),
    [
        ({"expected": None}, 0, "is 0, and not null"),
        ({"expected": 1}, True, "is true, and not 1"),
        ({"expected": {"a": [1]}}, {"a": [1, 2]}, 'is {"a": [1, 2]}, and not {"a": [1]}'),
        ({"expected": {"a": 1}}, {"b": 1}, 'is {"b": 1}, and not {"a": 1}'),
        ({"contains": ("Hello", "Bob")}, "Hello Anna", 'does not contain "Bob": "Hello Anna"'),
        ({"schema": {"items": {"type": "string"}}}, ["a", 1], "at `/1`: 1 is not of type"),
        ({"expected": "text"}, streamed("other", None), 'is "other", and not "text"'),
        ({"schema": {"type": "object"}}, streamed("text", None), "at `/`: null is not of type"),
    ],
)
def test_outputs_that_are_not(expectation: dict[str, Any], output: Any, problem: str) -> None:
    (found,) = Case("case", None, **expectation).problems(output)
    assert found.startswith(problem)


# --- evaluations


def test_outcomes_are_in_the_order_of_the_cases() -> None:
    both_run = threading.Barrier(2, timeout=PATIENCE)
    second_is_done = threading.Event()

    def run(input_: int) -> int:
        both_run.wait()
        if input_ == 1:
            assert second_is_done.wait(PATIENCE)
        else:
            second_is_done.set()
        return input_

    done: list[int] = []
    cases = [Case("one", 1, expected=1), Case("two", 2, expected=1)]
    evaluation = evaluate(Function(run), cases, concurrency=2, progress=done.append)
    assert [(each.name, each.passed) for each in evaluation.outcomes] == [
        ("one", True),
        ("two", False),
    ]
    assert (evaluation.passed, evaluation.failed, done) == (1, 1, [1, 2])
    assert evaluation.slowest >= evaluation.median


def test_a_run_without_a_result_is_a_failed_case() -> None:
    def run(input_: int) -> int:
        if input_ == 1:
            raise InvalidInputError("1 does not fit")
        if input_ == 2:
            raise KernelError("The kernel answers 429: too many runs", 429)
        return input_

    evaluation = evaluate(Function(run), [Case(str(n), n) for n in (1, 2, 3)])
    assert [each.problems for each in evaluation.outcomes] == [
        ["1 does not fit"],
        ["The kernel answers 429: too many runs"],
        [],
    ]


@pytest.mark.parametrize("status", [None, 401, 404])
def test_a_kernel_that_answers_no_case_ends_it(status: int | None) -> None:
    asked = []

    def run(input_: int) -> int:
        asked.append(input_)
        raise KernelError("no", status)

    with pytest.raises(KernelError):
        evaluate(Function(run), [Case(str(n), n) for n in range(100)])
    assert len(asked) < 100


# --- the command


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("place", ["component", "deployed"])
async def test_the_command(
    kernel: KernelProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    wasm = place == "component"
    skill = str(await asyncio.to_thread(component, "greet")) if wasm else "dev/greet"
    good = '{"name": "anna", "input": {"name": "Anna"}, "expected": "Hello Anna"}'
    bad = '{"input": {"name": ""}}'
    command = ("eval", skill, written(tmp_path, good, bad), "--kernel", kernel.url, "-c", 2)

    failed = await asyncio.to_thread(sdk, *command)
    assert failed.exit_code == 1
    assert "1 passed, 1 failed; p50 " in failed.stdout
    (row,) = [line for line in failed.stdout.splitlines() if line.startswith("line 2")]
    assert "failed" in row
    assert "name" in row

    written(tmp_path, good)
    passed = await asyncio.to_thread(sdk, *command, "--json")
    assert passed.exit_code == 0, passed.output
    report = json.loads(passed.stdout)
    assert (report["passed"], report["failed"]) == (1, 0)
    (case,) = report["cases"]
    assert (case["name"], case["output"], case["passed"]) == ("anna", "Hello Anna", True)


def test_the_command_with_cases_that_make_no_sense(tmp_path: Path) -> None:
    result = sdk("eval", "dev/greet", written(tmp_path, "{}"))
    assert result.exit_code == 1
    assert 'cases.jsonl:1: a case is an object with an "input"' in result.stderr


def test_an_input_that_only_json_can_write(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text('{"input": "\\ud800"}')
    (case,) = read_cases(file)
    assert json.loads(case.data()) == "\ud800"
