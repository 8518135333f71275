"""Recordings of a kernel's answers: a JSON file per test, in the folder ``cassettes`` beside it.

An entry has the function of the kernel's HTTP interface, the request's body, and an ``answer``,
the ``events`` of a stream, or an ``error``. Addresses, headers and tokens are no part of it.
Entries are ordered by function and request, so that a new recording of the same answers is the
same file.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pharia_kernel_sdk.pytest_plugin.showing import excerpt
from pharia_kernel_sdk.transport import CsiError, Event, Transport

FORMAT = 1
Entry = dict[str, Any]


def cassette_file(test_file: Path, test_name: str) -> Path:
    """Where the recording of a test is kept."""
    safe = re.sub(r"[^\w.-]+", "-", test_name).strip("-.")
    return test_file.parent / "cassettes" / test_file.stem / f"{safe}.json"


def read(file: Path) -> list[Entry]:
    """The entries of a recording. Fails the test if the file is none."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, not {FORMAT}")
        entries: list[Entry] = document["calls"]
        for entry in entries:
            _key(entry["function"], entry["request"])
    except (ValueError, KeyError, TypeError) as error:
        pytest.fail(f"{file} is no recording ({error}). Record it again.", pytrace=False)
    return entries


def write(file: Path, entries: list[Entry]) -> None:
    """In one step: a test run that is interrupted leaves the recording of before."""
    # Sorting is stable: equal requests keep the order in which they were made.
    ordered = sorted(entries, key=lambda entry: _key(entry["function"], entry["request"]))
    document = {"format": FORMAT, "calls": ordered}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)


class Recorder:
    """Asks a kernel, and remembers what was asked and answered."""

    def __init__(self, kernel: Transport) -> None:
        self.entries: list[Entry] = []
        self._kernel = kernel

    def call(self, function: str, body: Any) -> Any:
        entry: Entry = {"function": function, "request": body}
        try:
            entry["answer"] = self._kernel.call(function, body)
        except CsiError as error:
            _note(entry, error)
            raise
        finally:
            self._keep(entry)
        return entry["answer"]

    def stream(self, function: str, body: Any) -> Iterator[Event]:
        entry: Entry = {"function": function, "request": body, "events": []}
        try:
            for name, data in self._kernel.stream(function, body):
                entry["events"].append([name, data])
                yield name, data
        except CsiError as error:
            _note(entry, error)
            raise
        finally:
            self._keep(entry)

    def close(self) -> None:
        self._kernel.close()

    def _keep(self, entry: Entry) -> None:
        """A call that did not reach the kernel is not worth repeating."""
        if "answer" in entry or "error" in entry or entry.get("events"):
            self.entries.append(entry)


def _note(entry: Entry, error: CsiError) -> None:
    if error.status is not None or error.code is not None:
        entry["error"] = {"message": str(error), "status": error.status, "code": error.code}


class Player:
    """Answers as the kernel did when the test was recorded.

    Requests that were made several times get their answers in the order of the recording.
    """

    def __init__(self, file: Path, advice: str) -> None:
        self._file = file
        self._advice = advice
        self._left: dict[str, deque[Entry]] = defaultdict(deque)
        self._functions: dict[str, int] = defaultdict(int)
        for entry in read(file):
            self._left[_key(entry["function"], entry["request"])].append(entry)
            self._functions[entry["function"]] += 1

    def call(self, function: str, body: Any) -> Any:
        entry = self._take(function, body)
        _raise(entry)
        return entry["answer"]

    def stream(self, function: str, body: Any) -> Iterator[Event]:
        entry = self._take(function, body)
        yield from ((name, data) for name, data in entry["events"])
        _raise(entry)

    def close(self) -> None:
        pass

    def _take(self, function: str, body: Any) -> Entry:
        left = self._left.get(_key(function, body))
        if left:
            return left.popleft()
        known = ", ".join(f"{name} ({count})" for name, count in sorted(self._functions.items()))
        again = "is not" if left is None else "is not as often"
        pytest.fail(
            f"The skill made a call that {again} in the recording: {function}\n{excerpt(body)}\n\n"
            f"The recording {self._file.name} has: {known or 'nothing'}.\n{self._advice}",
            pytrace=False,
        )


def _raise(entry: Entry) -> None:
    if error := entry.get("error"):
        raise CsiError(error["message"], error["status"], error["code"])


def _key(function: str, body: Any) -> str:
    return f"{function} {json.dumps(body, sort_keys=True, ensure_ascii=False)}"
