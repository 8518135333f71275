"""Authors at work. All tests of this folder run in one event loop."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dev.support import Author, author
from tests.support.llm import llm

__all__ = ["llm"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and inspect.iscoroutinefunction(
            getattr(item, "obj", None)
        ):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture
def folder() -> Iterator[Author]:
    """Of an author who has written nothing yet."""
    with author() as found:
        yield found
