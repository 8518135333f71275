"""What served last, kept on disk for a kernel that starts while the registry is down."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from pharia_kernel.skills.files import replace_file
from pharia_kernel.skills.registry.base import Snapshot

logger = logging.getLogger("pharia_kernel.deployments")

_MAX_BYTES = 64 * 1024


class _Served(Struct, frozen=True):
    place: str
    digest: str
    size: int
    manifest_digest: str | None


class Recollection(Struct, frozen=True):
    """Of one skill: which version of the component in ``place`` served last.

    Only the digest is kept; the machine code is in the artifact cache. What can't be written or
    read costs a restart its memory and nothing else.
    """

    directory: Path
    namespace: str
    name: str
    """Of the skill."""
    place: str
    """Registry, repository and tag. What served from elsewhere does not count."""

    async def recall(self) -> Snapshot | None:
        return await asyncio.to_thread(self._read)

    async def keep(self, served: Snapshot) -> None:
        await asyncio.to_thread(self._write, served)

    def forget(self) -> None:
        """The skill is gone. Done in the background."""
        asyncio.get_running_loop().run_in_executor(None, self._remove)

    @property
    def _file(self) -> Path:
        # Names of skills may have any characters; those of namespaces have no dots.
        hashed = hashlib.sha256(self.name.encode()).hexdigest()[:16]
        return self.directory / f"{self.namespace}.{hashed}.served.json"

    def _read(self) -> Snapshot | None:
        try:
            with self._file.open("rb") as file:
                served = msgspec.json.decode(file.read(_MAX_BYTES), type=_Served)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            logger.warning("%s is of no use: %s", self._file.name, type(error).__name__)
            return None
        if served.place != self.place:
            return None
        manifest = served.manifest_digest
        return Snapshot(served.digest, served.size, manifest, manifest)

    def _write(self, served: Snapshot) -> None:
        record = _Served(self.place, served.digest, served.size, served.manifest_digest)
        try:
            replace_file(self._file, msgspec.json.encode(record))
        except OSError as error:
            logger.warning(
                "What serves as %s/%s can't be kept for a restart: %s",
                self.namespace,
                self.name,
                error.strerror,
            )

    def _remove(self) -> None:
        with suppress(OSError):
            self._file.unlink()
