"""What the build says when it can't go on."""

from __future__ import annotations


class BuildError(Exception):
    """The message says what is wrong, where, and what to do about it. ``details`` is for those who
    want to see everything."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
