"""The page of the pytest plugin: its options, its fixtures, and what these are."""

from __future__ import annotations

from collections.abc import Iterator

import griffe
import pytest
from pharia_kernel_sdk.pytest_plugin import plugin

from tools.reference import library
from tools.reference import markdown as md
from tools.reference.definitions import Sections

_MODULE = "pytest_plugin"
_OPTION_GROUP = "pharia-kernel"
_NAMES = (
    f"{_MODULE}.ScriptedCsi",
    f"{_MODULE}.script.Function",
    f"{_MODULE}.script.Rule",
    f"{_MODULE}.scripted.Call",
    f"{_MODULE}.SkillRunner",
    f"{_MODULE}.Streamed",
    f"{_MODULE}.SkillError",
    f"{_MODULE}.InvalidInputError",
    f"{_MODULE}.SkillFailedError",
)


def page() -> str:
    """``pytest.md``. Raises ``UndocumentedError``."""
    sections = Sections(_NAMES)
    sections.check(_MODULE)
    return md.page(
        md.heading(1, "pytest"),
        md.prose(library.docs(library.package()[_MODULE])),
        "How to work with it is in [testing a skill](../how-to/test.md).",
        md.heading(2, "Options"),
        md.table(("Option", "Meaning"), _options()),
        md.heading(2, "Fixtures"),
        md.table(("Fixture", "Type", "Meaning"), _fixtures()),
        md.heading(2, "Types"),
        *(sections.section(name) for name in _NAMES),
    )


def _options() -> Iterator[tuple[str, str]]:
    parser = pytest.Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    for option in parser.getgroup(_OPTION_GROUP).options:
        described = option.attrs()
        name = " ".join([*option.names(), described.get("metavar") or ""]).strip()
        yield f"`{name}`", described["help"]


def _fixtures() -> Iterator[tuple[str, str, str]]:
    module = library.package()[f"{_MODULE}.plugin"]
    for name, function in module.functions.items():
        if not name.startswith("_") and _is_fixture(function):
            yield f"`{name}`", f"`{_yielded(function)}`", md.prose(library.docs(function))


def _is_fixture(function: griffe.Function) -> bool:
    return any(str(each.value).startswith("pytest.fixture") for each in function.decorators)


def _yielded(function: griffe.Function) -> str:
    """What the test gets: fixtures that clean up are iterators."""
    return str(function.returns).removeprefix("Iterator[").removesuffix("]")
