"""Cases: an input, and what is expected of the output. A file has one per line, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs

from pharia_kernel_sdk.running.results import Streamed

_MEMBERS = ("name", "input", "expected", "contains", "schema")
_MOST = 200
"""Characters of an output in an explanation."""
_ABSENT = object()


class CasesError(Exception):
    """A file of cases makes no sense. The message says in which line, and why."""


@dataclass(frozen=True)
class Case:
    """``expected`` is the whole output, ``contains`` are pieces of its text, ``schema`` is a JSON
    Schema for it. What is not said is not checked; a case that says nothing passes if the skill has
    a result at all."""

    name: str
    input: Any
    expected: Any = _ABSENT
    contains: tuple[str, ...] = ()
    schema: Any = _ABSENT

    def data(self) -> bytes:
        """The input as JSON."""
        return json.dumps(self.input).encode()

    def problems(self, output: Any) -> list[str]:
        """What is wrong with what a skill returned or wrote; nothing if it is as expected.

        Of a message stream, ``expected`` and ``contains`` are about the text, and ``schema`` is
        about the payload at the end.
        """
        value = output.text if isinstance(output, Streamed) else output
        problems = []
        if self.expected is not _ABSENT and not _same(value, self.expected):
            problems.append(f"is {_short(value)}, and not {_short(self.expected)}")
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        missing = [piece for piece in self.contains if piece not in text]
        if missing:
            pieces = ", ".join(_short(piece) for piece in missing)
            problems.append(f"does not contain {pieces}: {_short(value)}")
        if self.schema is not _ABSENT:
            problems += _violations(self.schema, _payload(output))
        return problems


def read_cases(file: Path) -> list[Case]:
    """Empty lines are left out. Raises ``CasesError``."""
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CasesError(f"{file} can't be read: {error}.") from None
    cases = [_case(line, f"{file}:{n}", n) for n, line in enumerate(lines, 1) if line.strip()]
    if not cases:
        raise CasesError(f'{file} has no case: a line is one, such as {{"input": "text"}}.')
    return cases


def _case(line: str, place: str, number: int) -> Case:
    try:
        members = json.loads(line)
    except ValueError as error:
        raise CasesError(f"{place}: this is no JSON: {error}.") from None
    if not isinstance(members, dict) or "input" not in members:
        raise CasesError(f'{place}: a case is an object with an "input".')
    if unknown := [name for name in members if name not in _MEMBERS]:
        known = ", ".join(_MEMBERS)
        raise CasesError(f"{place}: a case has no `{unknown[0]}`; its members are {known}.")
    return Case(
        str(members.get("name", f"line {number}")),
        members["input"],
        members.get("expected", _ABSENT),
        _pieces(members.get("contains", []), place),
        _checked(members.get("schema", _ABSENT), place),
    )


def _pieces(contains: Any, place: str) -> tuple[str, ...]:
    pieces = [contains] if isinstance(contains, str) else contains
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise CasesError(f"{place}: `contains` is a text, or a list of texts.")
    return tuple(pieces)


def _checked(schema: Any, place: str) -> Any:
    if schema is _ABSENT:
        return schema
    try:
        jsonschema_rs.validator_for(schema)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise CasesError(f"{place}: `schema` is no JSON Schema: {_line(error)}.") from None
    return schema


def _violations(schema: Any, value: Any) -> list[str]:
    """The first few ways in which the value is not what the schema says."""
    validator = jsonschema_rs.validator_for(schema)
    errors = list(validator.iter_errors(value))
    return [f"at `{_at(error)}`: {_line(error)}" for error in errors[:3]]


def _at(error: jsonschema_rs.ValidationError) -> str:
    return "/" + "/".join(str(part) for part in error.instance_path)


def _line(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error)
    return " ".join(str(message).split())[:_MOST]


def _payload(output: Any) -> Any:
    if not isinstance(output, Streamed):
        return output
    return output.messages[-1].payload if output.messages else None


def _same(one: Any, other: Any) -> bool:
    """As in JSON, where ``true`` is not 1, although 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."
