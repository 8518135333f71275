"""Programs that tests need and that no wheel brings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def needed(program: str) -> Path:
    """Debian's package ``prometheus`` has ``prometheus`` and ``promtool``. Without it the test is
    skipped, but not where everything must be tested."""
    path = shutil.which(program)
    if path is None:
        reason = f"`{program}` is not installed (Debian: apt install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(path)
