"""What skills write, for protocols in which an answer comes as a whole."""

from __future__ import annotations

from typing import Any

import msgspec

from pharia_kernel.errors import SkillBug

MOST = 64 << 20
"""Bytes, about, that one answer may take in the kernel's memory. Streams have no limit, because the
kernel keeps nothing of what it has passed on."""
_PIECE = 256
"""Bytes, about, that each takes besides its characters."""


class Room:
    """For the pieces of one answer."""

    def __init__(self, size: int = MOST) -> None:
        self._size = size
        self._left = size

    def take(self, text: str = "") -> str:
        """The text. Raises ``SkillBug`` if the answer has become too large."""
        self._left -= len(text) + _PIECE
        if self._left < 0:
            raise SkillBug(
                f"The skill writes more than fits into one answer ({self._size} bytes). A message "
                "stream has no such limit."
            )
        return text


def value_of(data: bytes | msgspec.Raw) -> Any:
    """The JSON value; none if it has numbers beyond those of Python, which JSON allows, or is
    nested too deeply."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.ValidationError, RecursionError):
        return None
