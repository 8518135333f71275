"""The built front end, read and compressed once, before anybody asks a second time."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from functools import cache
from importlib.resources import files

from msgspec import Struct

_STATIC = files(__package__) / "static"
PAGE = "index.html"
_FOLDER = "console"
"""Beneath it are the files that the page loads; a hash of their contents is in their names."""


class Asset(Struct, frozen=True):
    content: bytes
    compressed: bytes
    """gzip"""
    media_type: str
    tag: str
    """Changes with the content."""


@cache
def page() -> Asset:
    """What a browser gets at the root."""
    return _read((_STATIC / PAGE).read_bytes(), PAGE)


@cache
def assets() -> dict[str, Asset]:
    """The other files, by name."""
    return {
        entry.name: _read(entry.read_bytes(), entry.name)
        for entry in (_STATIC / _FOLDER).iterdir()
        if entry.is_file()
    }


def _read(content: bytes, name: str) -> Asset:
    return Asset(
        content,
        gzip.compress(content, mtime=0),
        _media_type(name),
        hashlib.sha256(content).hexdigest()[:32],
    )


def _media_type(name: str) -> str:
    guessed = {".js": "text/javascript"}.get(name[name.rfind(".") :])
    guessed = guessed or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed
