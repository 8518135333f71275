"""The interface of registries."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from msgspec import Struct


class Snapshot(Struct, frozen=True):
    """What a registry holds under a name at one moment."""

    digest: str
    """``sha256:`` and 64 hexadecimal digits of the component's bytes."""
    size: int
    """Bytes of the component."""
    signature: Hashable
    """What the registry compares to tell cheaply that nothing changed; never an identity."""
    manifest_digest: str | None = None
    """Of the artifact's manifest, in registries that have manifests (OCI)."""


class Blob(Struct, frozen=True):
    wasm: bytes
    snapshot: Snapshot
    """Of these very bytes."""


class Registry(Protocol):
    """All methods raise ``SkillUnavailable`` if the component is missing or can't be read."""

    async def snapshot(self, name: str, tag: str) -> Snapshot:
        """The digest of what is there now, without keeping the bytes in memory."""
        ...

    async def changed(self, name: str, tag: str, since: Snapshot) -> bool:
        """Whether a new snapshot is worth its price; true when in doubt."""
        ...

    async def read(self, name: str, tag: str) -> Blob:
        """The bytes of the component."""
        ...


class Verifier(Protocol):
    """Decides whether a version may run, by who signed it. Two that compare equal decide alike."""

    async def verify(self, name: str, snapshot: Snapshot) -> str:
        """Who signed the skill ``name`` as it is in the snapshot, for people.

        Raises ``SignatureRejected`` if nobody did whom the namespace trusts, or
        ``SkillUnavailable`` if that can't be found out at the moment.
        """
        ...
