"""Tools that are Go modules: skipped where they can't be had, except in continuous integration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.go_tools import tool
from tools.tool_cache import ToolUnavailable


def go_tool(name: str) -> Path:
    """The executable; skips the test (or fails, if the variable CI is set) if there is none."""
    try:
        return tool(name)
    except ToolUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
