"""A directory of components: ``<directory>/<name>.wasm``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from pharia_kernel.errors import SkillLoadError, SkillUnavailable
from pharia_kernel.skills.failures import printable
from pharia_kernel.skills.paths import is_skill_name
from pharia_kernel.skills.registry.base import Blob, Snapshot

SUFFIX = ".wasm"
MAX_COMPONENT_SIZE = 1 << 30
"""Bytes. Python components are about 50 MB; a limit keeps a wrong file from filling the memory."""

_ATTEMPTS = 6
_FIRST_PAUSE = 0.02
_DOUBTFUL_AGE_NS = 2_000_000_000

_T = TypeVar("_T")


class FileSignature(Struct, frozen=True):
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    settled: bool
    """False if the file was written so recently that one more write could leave the same times."""


class _ChangedMeanwhile(Exception):
    """The file was written while it was read."""


class FileRegistry:
    """Reads components off the event loop. Tags have no meaning here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def names(self) -> set[str]:
        """Names of the skills in the directory. Raises ``OSError`` if it can't be listed."""
        return await asyncio.to_thread(self._list)

    async def snapshot(self, name: str, tag: str) -> Snapshot:
        return await self._stable(name, self._digest)

    async def changed(self, name: str, tag: str, since: Snapshot) -> bool:
        signature = await asyncio.to_thread(self._signature, name)
        return signature != since.signature or not signature.settled

    async def read(self, name: str, tag: str) -> Blob:
        return await self._stable(name, self._read)

    # --- in threads -------------------------------------------------------------------------------

    def _list(self) -> set[str]:
        base = self.directory.resolve(strict=True)
        with os.scandir(base) as entries:
            return {
                entry.name.removesuffix(SUFFIX)
                for entry in entries
                if _is_component_name(entry.name) and _is_component_file(entry, base)
            }

    def _digest(self, file: BufferedReader, signature: FileSignature) -> Snapshot:
        return _snapshot(hashlib.file_digest(file, "sha256").hexdigest(), signature)

    def _read(self, file: BufferedReader, signature: FileSignature) -> Blob:
        wasm = file.read(signature.size)
        return Blob(wasm, _snapshot(hashlib.sha256(wasm).hexdigest(), signature))

    def _signature(self, name: str) -> FileSignature:
        with self._open(name) as file:
            return _sign(file)

    def _open(self, name: str) -> BufferedReader:
        """The opened regular file; links are followed only as long as they stay in the
        directory.
        """
        try:
            path = self._locate(name)
            # O_NONBLOCK: opening a named pipe must not wait for its writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            file = os.fdopen(descriptor, "rb")
        except FileNotFoundError:
            raise SkillUnavailable(
                f"There is no file `{printable(name)}{SUFFIX}` in the namespace's directory."
            ) from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
            raise SkillUnavailable(_unreadable(name, error)) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise SkillUnavailable(f"`{printable(name)}{SUFFIX}` is not a regular file.")
        return file

    def _locate(self, name: str) -> Path:
        base = self.directory.resolve(strict=True)
        if not is_skill_name(name):
            raise SkillUnavailable(f"`{printable(name)}` can't be the name of a file.")
        path = (base / f"{name}{SUFFIX}").resolve(strict=True)
        if not path.is_relative_to(base):
            raise SkillUnavailable(
                f"`{printable(name)}{SUFFIX}` is a link out of the namespace's directory."
            )
        return path

    def _once(self, name: str, use: Callable[[BufferedReader, FileSignature], _T]) -> _T:
        with self._open(name) as file:
            before = _sign(file)
            if before.size > MAX_COMPONENT_SIZE:
                raise SkillLoadError(
                    f"`{name}{SUFFIX}` has {before.size} bytes; {MAX_COMPONENT_SIZE} are allowed."
                )
            try:
                result = use(file, before)
            except OSError as error:
                raise SkillUnavailable(_unreadable(name, error)) from error
            if not _same_file(before, _sign(file)):
                raise _ChangedMeanwhile
            return result

    # --- on the event loop ------------------------------------------------------------------------

    async def _stable(self, name: str, use: Callable[[BufferedReader, FileSignature], _T]) -> _T:
        """``use`` on a file that did not change meanwhile; a writer gets a moment to finish."""
        for attempt in range(_ATTEMPTS):
            try:
                return await asyncio.to_thread(self._once, name, use)
            except _ChangedMeanwhile:
                await asyncio.sleep(_FIRST_PAUSE * 2**attempt)
        raise SkillUnavailable(f"`{name}{SUFFIX}` is still being written.", retry_after=1.0)


def _is_component_name(file_name: str) -> bool:
    """Hidden files and those that editors and copying programs leave while they work are not
    skills.
    """
    return (
        file_name.endswith(SUFFIX)
        and not file_name.startswith((".", "~", "#"))
        and is_skill_name(file_name.removesuffix(SUFFIX))
    )


def _is_component_file(entry: os.DirEntry[str], base: Path) -> bool:
    try:
        if not entry.is_symlink():
            return entry.is_file(follow_symlinks=False)
        target = Path(entry.path).resolve(strict=True)
        return target.is_relative_to(base) and target.is_file()
    except (OSError, RuntimeError):
        return False  # a dangling link, a loop of links, or gone since it was listed


def _sign(file: BufferedReader) -> FileSignature:
    status = os.fstat(file.fileno())
    age = abs(time.time_ns() - status.st_ctime_ns)
    return FileSignature(
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        settled=age > _DOUBTFUL_AGE_NS,
    )


def _same_file(one: FileSignature, other: FileSignature) -> bool:
    return (one.inode, one.size, one.mtime_ns, one.ctime_ns) == (
        other.inode,
        other.size,
        other.mtime_ns,
        other.ctime_ns,
    )


def _snapshot(hexdigest: str, signature: FileSignature) -> Snapshot:
    return Snapshot(f"sha256:{hexdigest}", signature.size, signature)


def _unreadable(name: str, error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"`{printable(name)}{SUFFIX}` can't be read: {reason}."
