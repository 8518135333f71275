"""Errors of a skill as its callers and its author read them."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Mapping

_MOST_FRAMES = 8


def summary(error: BaseException, author_files: Mapping[str, str]) -> str:
    """One line that says what happened, and below it the author's own lines that led there, the
    innermost last.

    ``author_files`` are the file names as tracebacks have them, and as the author knows them.
    Frames of libraries are left out.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in author_files]
    lines = [headline(error)]
    if len(frames) > _MOST_FRAMES:
        lines.append(f"  ... {len(frames) - _MOST_FRAMES} more of the skill's own calls")
    for frame in frames[-_MOST_FRAMES:]:
        place = f"  {author_files[frame.filename]}:{frame.lineno} in {frame.name}"
        source = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
        lines.append(f"{place}: {source}" if source else place)
    return "\n".join(lines)


def headline(error: BaseException) -> str:
    """Such as ``ValueError: no such city``, in one line."""
    text = "".join(traceback.format_exception_only(error)).strip()
    return " ".join(text.split())


def whole(error: BaseException) -> str:
    """The whole traceback, for the log."""
    return "".join(traceback.format_exception(error))
