"""The page on moving from ``pharia_skill`` tells the truth about both SDKs.

``tests.docs.moving.probe`` tries things out with each; every row of the page's table has to have
its proof here, or name the test that has it.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.dev.support import published_python
from tools.build_skills import ROOT

PAGE = ROOT / "docs" / "sdk" / "moving-from-pharia-skill.md"
PROBE = Path(__file__).parent / "moving" / "probe.py"

Found = dict[str, Any]

OTHERWISE = {
    "ToolCallRequest": "`ToolCallRequest(name, parameters)`",
    "DevCsi": "`DevCsi(namespace, project)`",
}
"""Names whose parameters are not the same, and the rows that say so."""
BY_POSITION = {"skill", "message_stream", "Csi", "MessageWriter", "StubCsi"}
"""Decorators, and classes that are made without arguments."""

PROVEN: dict[str, dict[str, tuple[Any, Any]]] = {
    "components are of WIT 0.3.11": {"wit_version": ("0.3.11", "0.4.0")},
    "tools are described in the system prompt": {
        "tools_are_described": (
            {"in the system prompt": True, "in the request": False},
            {"in the system prompt": False, "in the request": True},
        ),
        "tool_results": (
            {
                "asked": '<|python_tag|>{"type": "function", "function": '
                '{"name": "add", "parameters": {"a": 1, "b": 2}}}',
                "result": 'completed[stdout]:{"result": 3}[/stdout]',
                "said": "Three.",
            },
            {"asked": "Let me see. ", "result": "3", "said": "Let me see. Three."},
        ),
    },
    "`chat_stream(..., tools=[...])` adds the turns": {
        "callers_list": (3, 1),
        "endless_tools": ("RuntimeError after 31", "ToolError after 10"),
    },
    "`ToolCallRequest(name, parameters)`": {
        "tool_call": (["name", "parameters"], ["id", "name", "arguments"]),
        "tool_call_parameters": ({"a": 1}, {"a": 1}),
    },
    "`ToolOutput.as_message()`": {
        "tool_messages": (
            {"as_message": [], "tool": ["content"]},
            {"as_message": ["tool_call_id"], "tool": ["content", "tool_call_id"]},
        )
    },
    "`finish_reason` has three values": {
        "finish_reasons": (
            ["STOP", "LENGTH", "CONTENT_FILTER"],
            ["STOP", "LENGTH", "CONTENT_FILTER", "TOOL_CALLS"],
        )
    },
    "`response.finish_reason()` reads": {
        "finish_reason_without_usage": (
            {"reason": "ValueError", "usage": "ValueError"},
            {"reason": "stop", "usage": "ValueError"},
        ),
        "stays_readable": ([], ["TokenUsage"]),
    },
    "`writer.forward_response` leaves reasoning out": {
        "forwarded_reasoning": (
            ["MessageBegin", "MessageAppend", "MessageEnd"],
            ["MessageBegin", "Reasoning", "MessageAppend", "MessageEnd"],
        )
    },
    "types are pydantic dataclasses": {"wrong_when_made": ("ValidationError", "nothing")},
    "the decorated name is a wrapper": {"decorated": (False, True)},
    "a skill's parameters are pydantic models": {"plain_parameters": ("AssertionError", "works")},
    "`from __future__ import annotations`": {"future_annotations": ("AssertionError", "works")},
    "`MessageRecorder` takes an append": {"append_after_end": ("accepted", "StreamOrderError")},
    "`EqualTo(True)` reaches the kernel": {
        "filter_of_a_bool": ("MetadataFieldValue_IntegerType", '"equal_to": true'),
        "filter_by_date": ("TypeError", "2026-01-02"),
    },
    "`DevCsi(namespace, project)`": {
        "dev_csi": (["namespace", "project"], ["namespace", "transport"]),
        "dev_csi_without_token": ("KeyError", "works"),
    },
    "`.env` is looked for": {"dotenv_in_the_current_folder": ("KeyError", "asked")},
    "`DevCsi.run`, `.stream`": {"gone": (["DevCsi.run", "DevCsi.stream", "studio", "llama3"], [])},
    "`RecordedMessage` is a pydantic model": {
        "recorded_message": (
            {"pydantic": True, "dataclass": False, "skill_output": True},
            {"pydantic": False, "dataclass": True, "skill_output": False},
        )
    },
}
ELSEWHERE = {
    "logprobs in the appends": "sdk/tests/test_components.py::test_chat_stream",
    "a failed run returns the whole traceback": (
        "sdk/tests/test_components.py::test_an_error_shows_the_authors_lines_and_the_log_all"
    ),
    "a module imported inside of a function": (
        "sdk/tests/test_components.py::test_imports_in_functions_work"
    ),
    "message streams have no metadata": (
        "sdk/tests/test_components.py::test_a_streams_metadata_come_with_the_component"
    ),
    "`pharia-skill publish`": "sdk/tests/test_publishing.py",
}


@pytest.fixture(scope="module")
def before() -> Found:
    return _probe(published_python(), "pharia_skill")


@pytest.fixture(scope="module")
def after() -> Found:
    return _probe(Path(sys.executable), "pharia_kernel_sdk")


def _probe(python: Path, name: str) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, PROBE, name], cwd=folder, capture_output=True, text=True, timeout=180
        )
    assert done.returncode == 0, done.stderr
    found: Found = json.loads(done.stdout)
    return found


def _rows() -> list[str]:
    """The first cells of the table of differences."""
    section = PAGE.read_text("utf-8").split("## What behaves differently")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return [re.split(r"(?<!\\)\|", line)[1].strip() for line in lines]


def test_every_row_is_proven() -> None:
    claims = [*PROVEN, *ELSEWHERE]
    unproven = [row for row in _rows() if not any(row.startswith(claim) for claim in claims)]
    gone = [claim for claim in claims if not any(row.startswith(claim) for row in _rows())]
    assert (unproven, gone) == ([], [])


@pytest.mark.parametrize("claim", ELSEWHERE)
def test_what_is_proven_elsewhere_is(claim: str) -> None:
    file, _, name = ELSEWHERE[claim].partition("::")
    functions = {
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not name or name in functions


@pytest.mark.timeout(300, func_only=False)
@pytest.mark.parametrize("claim", PROVEN)
def test_a_difference_is_as_the_page_says(claim: str, before: Found, after: Found) -> None:
    probes = PROVEN[claim]
    assert {probe: (before[probe], after[probe]) for probe in probes} == probes


def test_wrong_types_are_told_by_their_path(after: Found) -> None:
    text = "ChatRequest $.messages: expected a list"
    assert text in PAGE.read_text("utf-8")
    assert after["wrong_when_used"].startswith(text)


def test_names_parameters_and_fields_stay(before: Found, after: Found) -> None:
    assert before["names"].keys() <= after["names"].keys()
    changed = {
        name
        for name, parameters in before["names"].items()
        if name not in BY_POSITION and after["names"][name][: len(parameters)] != parameters
    }
    assert changed == OTHERWISE.keys()
    for row in OTHERWISE.values():
        assert any(found.startswith(row) for found in _rows())


def test_methods_keep_their_parameters(before: Found, after: Found) -> None:
    assert before["methods"]
    changed = {
        name: (parameters, after["methods"].get(name))
        for name, parameters in before["methods"].items()
        if (after["methods"].get(name) or [])[: len(parameters)] != parameters
    }
    assert changed == {}
