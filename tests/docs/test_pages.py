"""Every page that tells its reader to do something, followed to the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.reader import Reader
from tools.build_skills import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "sdk" / "README.md",
    ROOT / "docs" / "tutorial.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "sdk").glob("*.md")),
]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.timeout(1200, func_only=True)
@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_reader_gets_what_the_page_says(page: Path, reader: Reader) -> None:
    reader.follow(page)
    if target := os.environ.get("DOCS_TIMES"):
        _append_times(Path(target), page, reader)


def _append_times(target: Path, page: Path, reader: Reader) -> None:
    rows = [f"| {section} | {seconds:.1f} s |" for section, seconds in reader.times.items()]
    total = f"| **together** | {sum(reader.times.values()):.1f} s |"
    with target.open("a") as file:
        file.write("\n".join([f"| {_name(page)} | |", "|---|---|", *rows, total, "", ""]))
