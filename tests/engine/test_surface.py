"""The functions that engines link are those of the WIT texts."""

from __future__ import annotations

import re

import pytest

from pharia_kernel import wit
from pharia_kernel.engine import surface

EXPORTED = {"skill-handler", "message-stream"}
LINES = list(surface.NEWEST)


def items(line: str) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    """Functions and resources by interface, with the names that they have in a component."""
    functions: dict[str, set[str]] = {}
    resources: dict[str, list[str]] = {}
    interface = resource = ""
    for raw in wit.text(line).splitlines():
        text = raw.split("//")[0].strip()
        if match := re.fullmatch(r"interface ([\w-]+) \{", text):
            interface, resource = match[1], ""
        elif match := re.fullmatch(r"resource ([\w-]+) \{", text):
            resource = match[1]
            resources.setdefault(interface, []).append(resource)
        elif text == "}":
            resource = ""
        elif text.startswith("constructor("):
            functions.setdefault(interface, set()).add(f"[constructor]{resource}")
        elif match := re.match(r"([\w-]+): func\(", text):
            name = f"[method]{resource}.{match[1]}" if resource else match[1]
            functions.setdefault(interface, set()).add(name)
    return {k: v for k, v in functions.items() if k not in EXPORTED}, resources


def test_the_versions_are_those_of_the_texts() -> None:
    assert tuple(surface.NEWEST.values()) == wit.versions()
    assert {line: wit.line_of(version) for line, version in surface.NEWEST.items()} == {
        line: line for line in LINES
    }


@pytest.mark.parametrize("line", LINES)
def test_the_functions_are_those_of_the_text(line: str) -> None:
    offered = {interface: set(names) for interface, names in surface.functions(line).items()}
    assert offered == items(line)[0]


@pytest.mark.parametrize("line", LINES)
def test_the_resources_are_those_of_the_text(line: str) -> None:
    assert surface.resources(line) == items(line)[1]


@pytest.mark.parametrize("line", LINES)
def test_the_kind_of_a_function_shows_in_its_name(line: str) -> None:
    for functions in surface.functions(line).values():
        for name, kind in functions.items():
            assert (kind == "open") == name.startswith("[constructor]")
            assert (kind in ("next", "write")) == name.startswith("[method]")


def test_interfaces_are_named_at_the_newest_version() -> None:
    assert surface.interface_name("0.3", "tool") == "pharia:skill/tool@0.3.11"
