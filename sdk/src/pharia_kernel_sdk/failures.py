"""Errors of a skill as its callers and its author read them."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterable
from pathlib import PurePosixPath

_MOST_FRAMES = 8


def summary(error: BaseException, author_files: Iterable[str]) -> str:
    """One line that says what happened, and below it the author's own lines that led there, the
    innermost last.

    ``author_files`` are the file names as tracebacks have them. Frames of libraries are left out.
    """
    own = set(author_files)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in own]
    lines = [headline(error)]
    if len(frames) > _MOST_FRAMES:
        lines.append(f"  ... {len(frames) - _MOST_FRAMES} more of the skill's own calls")
    for frame in frames[-_MOST_FRAMES:]:
        place = f"  {short(frame.filename)}:{frame.lineno} in {frame.name}"
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


def short(filename: str) -> str:
    """A file name without the folder that a component has it in."""
    path = PurePosixPath(filename)
    return str(path.relative_to("/app")) if path.is_relative_to("/app") else path.name
