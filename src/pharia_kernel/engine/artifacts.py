"""The disk cache of artifacts.

An artifact is native code, so only what this kernel's compiler wrote is ever loaded: beside each
``KEY.cwasm`` lies a ``KEY.json`` with a message authentication code (keyed BLAKE3) of the artifact
and of the facts about it. The secret key is in the same directory, readable for the owner alone,
like the directory itself. What does not verify is removed and compiled again.

``KEY`` names the component's digest and everything else that decides whether the code can run here.
Files appear by rename, the ``.json`` last; a crash at any moment leaves at most files without a
partner, which the next start removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import platform
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import blake3
import msgspec
from msgspec import Struct

from pharia_kernel.engine import retype
from pharia_kernel.engine.api import Artifact, ComponentInfo, ComponentKind
from pharia_kernel.engine.surface import NEWEST

log = logging.getLogger("pharia_kernel.engine")

_STALE_TEMPORARY = 3600.0
_INSPECTION = 1
"""Grows when more is read from components; notes of kernels that read less have a smaller one."""


class _Facts(Struct):
    digest: str
    fingerprint: str
    size: int
    info: ComponentInfo
    inspection: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is missing that only the component itself could tell."""
        # Functions have an export that tells more than the section does.
        return self.inspection >= _INSPECTION or self.info.kind is ComponentKind.FUNCTION


class _Sidecar(Struct):
    facts: msgspec.Raw
    """As they were written: another version of the kernel may write more or fewer of them."""
    mac: str


class ArtifactCache:
    """All methods block on the disk; call them off the event loop."""

    def __init__(self, directory: Path, capacity: int, fingerprint: str) -> None:
        """``capacity`` in bytes of artifact files. ``fingerprint`` names the runtime and its
        configuration."""
        self._directory = directory
        self._capacity = capacity
        parts = (fingerprint, retype.RECIPE, platform.machine(), max(NEWEST.values()))
        self._fingerprint = "+".join(parts)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(
            PermissionError
        ):  # another's: a volume, whose rights are set there
            directory.chmod(0o700)
        self._secret = self._read_secret()
        self._remove_leftovers()

    def temporary(self) -> Path:
        """A fresh path in the cache's directory for the compiler to write to."""
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=".tmp")
        os.close(handle)
        return Path(name)

    def find(self, digest: str) -> Artifact | None:
        """The artifact if it is there and verifies, with all that is known of its kind."""
        facts = self._verified(digest)
        return self._artifact(facts) if facts and facts.complete else None

    def renew(self, digest: str, info: ComponentInfo) -> Artifact | None:
        """The artifact if it is there and verifies, under what was just read from the component:
        an older kernel may have noted less."""
        facts = self._verified(digest)
        if facts is None:
            return None
        if facts.inspection < _INSPECTION:
            path, sidecar_path = self._paths(digest)
            facts = self._facts(digest, facts.size, info)
            self._note(facts, path).replace(sidecar_path)
        return self._artifact(facts)

    def _verified(self, digest: str) -> _Facts | None:
        """What was noted of the artifact if it is there and intact; marks it as used."""
        path, sidecar_path = self._paths(digest)
        try:
            sidecar = msgspec.json.decode(sidecar_path.read_bytes(), type=_Sidecar)
            expected = self._mac(path, sidecar.facts)
            intact = hmac.compare_digest(sidecar.mac.encode(), expected.encode())
            facts = msgspec.json.decode(sidecar.facts, type=_Facts)
            os.utime(sidecar_path)
        except FileNotFoundError:  # or another kernel has just removed it
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("artifact of %s is unreadable and is compiled again: %s", digest, error)
            intact = False
        if not intact or facts.digest != digest:
            log.warning("artifact of %s is corrupt or foreign and is compiled again", digest)
            self.discard(digest)
            return None
        return facts

    def store(self, digest: str, temporary: Path, info: ComponentInfo) -> Artifact:
        """Take over what the compiler wrote."""
        facts = self._facts(digest, temporary.stat().st_size, info)
        path, sidecar_path = self._paths(digest)
        note = self._note(facts, temporary)
        temporary.replace(path)
        note.replace(sidecar_path)
        return self._artifact(facts)

    def _facts(self, digest: str, size: int, info: ComponentInfo) -> _Facts:
        return _Facts(digest, self._fingerprint, size, info, _INSPECTION)

    def _artifact(self, facts: _Facts) -> Artifact:
        path, _ = self._paths(facts.digest)
        return Artifact(facts.digest, path, facts.size, facts.info)

    def _note(self, facts: _Facts, code: Path) -> Path:
        """A sidecar for the machine code, in a temporary place."""
        encoded = msgspec.Raw(msgspec.json.encode(facts))
        sidecar = _Sidecar(encoded, self._mac(code, encoded))
        note = self.temporary()
        note.write_bytes(msgspec.json.encode(sidecar))
        return note

    def discard(self, digest: str) -> None:
        for path in reversed(self._paths(digest)):
            path.unlink(missing_ok=True)

    def trim(self, in_use: Callable[[Path], bool]) -> None:
        """Remove the least recently used artifacts until the rest fits; those in use stay."""
        entries = sorted(
            (sidecar.stat().st_mtime, sidecar, sidecar.with_suffix(".cwasm"))
            for sidecar in self._directory.glob("*.json")
        )
        total = sum(_size(path) for _, _, path in entries)
        for _, sidecar, path in entries:
            if total <= self._capacity:
                return
            if not in_use(path):
                total -= _size(path)
                sidecar.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                log.info("artifact %s evicted from the cache", path.stem)

    def _paths(self, digest: str) -> tuple[Path, Path]:
        runtime = hashlib.sha256(self._fingerprint.encode()).hexdigest()[:12]
        key = f"{digest.removeprefix('sha256:')}-{runtime}"
        return self._directory / f"{key}.cwasm", self._directory / f"{key}.json"

    def _mac(self, path: Path, facts: msgspec.Raw) -> str:
        hasher = blake3.blake3(key=self._secret, max_threads=blake3.blake3.AUTO)
        hasher.update(bytes(facts))
        hasher.update_mmap(path)
        return hasher.hexdigest()

    def _read_secret(self) -> bytes:
        path = self._directory / "key"
        size = blake3.blake3.key_size
        with contextlib.suppress(FileNotFoundError):
            secret = path.read_bytes()
            if len(secret) == size:
                return secret
            path.unlink()  # damaged, and with it all artifacts
        temporary = self.temporary()  # created for the owner alone
        temporary.write_bytes(secrets.token_bytes(size))
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            pass  # another kernel was faster: use its key
        except OSError:
            temporary.replace(path)  # a file system without hard links
        temporary.unlink(missing_ok=True)
        return path.read_bytes()

    def _remove_leftovers(self) -> None:
        """What a kernel that was killed left behind. Another kernel's fresh temporary files are not
        touched."""
        now = time.time()
        for path in self._directory.glob("*.tmp"):
            if now - path.stat().st_mtime > _STALE_TEMPORARY:
                path.unlink(missing_ok=True)
        for path in self._directory.glob("*.cwasm"):
            old = now - path.stat().st_mtime > _STALE_TEMPORARY
            if old and not path.with_suffix(".json").exists():
                path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
