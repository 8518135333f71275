"""Keeps the last good descriptions of remote namespaces over restarts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from pharia_kernel.skills.files import replace_file
from pharia_kernel.skills.namespaces.fetching import MAX_BYTES, Validators

logger = logging.getLogger("pharia_kernel.namespaces")

_MAX_FILE_BYTES = 8 * MAX_BYTES
"""JSON escapes make a text longer."""


class Remembered(Struct, frozen=True):
    text: str
    validators: Validators


class Memory:
    """One file for each namespace and URL, for this user only: descriptions may hold tokens of MCP
    servers. The token for the description itself is not kept.

    What can't be written or read costs a restart its memory and nothing else.
    """

    def __init__(self, directory: Path | None) -> None:
        """None: nothing is kept."""
        self._directory = directory

    async def recall(self, namespace: str, url: str) -> Remembered | None:
        if self._directory is None:
            return None
        return await asyncio.to_thread(_read, self._directory / _name(namespace, url))

    async def keep(self, namespace: str, url: str, remembered: Remembered) -> None:
        if self._directory is not None:
            await asyncio.to_thread(self._write, namespace, url, remembered)

    async def forget(self, namespace: str, url: str) -> None:
        if self._directory is not None:
            with suppress(OSError):
                await asyncio.to_thread((self._directory / _name(namespace, url)).unlink)

    def _write(self, namespace: str, url: str, remembered: Remembered) -> None:
        assert self._directory is not None
        try:
            replace_file(self._directory / _name(namespace, url), msgspec.json.encode(remembered))
        except OSError as error:
            logger.warning(
                "The description of namespace %s can't be kept for a restart: %s",
                namespace,
                error.strerror,
            )


def _name(namespace: str, url: str) -> str:
    """Namespaces have no dots; the URL may hold a password, so only its hash is told."""
    return f"{namespace}.{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"


def _read(file: Path) -> Remembered | None:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
        return msgspec.json.decode(content, type=Remembered)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        logger.warning("%s is of no use: %s", file.name, type(error).__name__)
        return None
