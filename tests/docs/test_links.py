"""Links and pictures of the documentation lead to files that exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tools.build_skills import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "sdk" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page(page: Path) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    missing = [target for target in _local(tokens) if not (page.parent / target).exists()]
    assert not missing


def test_the_index_has_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    tokens = MarkdownIt("commonmark").enable("table").parse(index.read_text("utf-8"))
    linked = {(index.parent / target).resolve() for target in _local(tokens)}
    pages = {page for page in index.parent.rglob("*.md") if page.name != "README.md"}
    assert pages <= linked


def _local(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        for name in ("href", "src"):
            target = str(token.attrGet(name) or "").partition("#")[0]
            if target and "://" not in target:
                yield target
        yield from _local(token.children or [])
