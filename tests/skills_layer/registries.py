"""A registry far away and a verifier, in memory: to control what they say, and when."""

from __future__ import annotations

import asyncio
from collections import Counter

from pharia_kernel.errors import ArtifactNotFound, SignatureRejected
from pharia_kernel.skills.registry.base import Blob, Snapshot
from tests.skills_layer.support import digest_of


class RemoteRegistry:
    """Implements ``skills.registry.base.Registry`` over texts with tags."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}
        self.manifests: dict[str, str] = {}
        """Digest of the manifest by text; made from the text if it is not here."""
        self.asked: Counter[str] = Counter()
        """Questions what there is, by name."""
        self.read_names: Counter[str] = Counter()
        self.asking = 0
        """Questions that wait for their answer."""
        self.gate: asyncio.Event | None = None
        """Of the questions."""
        self.read_gate: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.read_fault: Exception | None = None
        self.forged: str | None = None
        """What is read, whatever is asked for."""

    def push(self, name: str, text: str, tag: str = "latest") -> None:
        self.texts[name, tag] = text

    async def snapshot(self, name: str, tag: str) -> Snapshot:
        self.asked[name] += 1
        self.asking += 1
        try:
            if self.gate:
                await self.gate.wait()
        finally:
            self.asking -= 1
        if self.fault:
            raise self.fault
        return self._snapshot(name, tag)

    async def changed(self, name: str, tag: str, since: Snapshot) -> bool:
        now = await self.snapshot(name, tag)
        return now.manifest_digest != since.manifest_digest

    async def read(self, name: str, tag: str) -> Blob:
        self.read_names[name] += 1
        if self.read_gate:
            await self.read_gate.wait()
        if self.read_fault:
            raise self.read_fault
        if self.forged:
            return Blob(self.forged.encode(), Snapshot(digest_of(self.forged), 1, None))
        snapshot = self._snapshot(name, tag)
        return Blob(self.texts[name, tag].encode(), snapshot)

    def _snapshot(self, name: str, tag: str) -> Snapshot:
        text = self.texts.get((name, tag))
        if text is None:
            raise ArtifactNotFound(f"There is no `{name}:{tag}`.")
        manifest = self.manifests.get(text, digest_of(f"manifest of {text}"))
        return Snapshot(digest_of(text), len(text), None, manifest)


class Notary:
    """Implements ``skills.registry.base.Verifier``: knows what is signed, and by whom."""

    def __init__(self, name: str = "alice") -> None:
        self.name = name
        self.signed: set[str] = set()
        """Texts."""
        self.asked: Counter[str] = Counter()
        """By digest of the component."""
        self.gate: asyncio.Event | None = None
        self.fault: Exception | None = None
        self.deaf = False
        """Goes on although it was cancelled."""

    async def verify(self, name: str, snapshot: Snapshot) -> str:
        self.asked[snapshot.digest] += 1
        try:
            if self.gate:
                await self.gate.wait()
        except asyncio.CancelledError:
            if not self.deaf:
                raise
        if self.fault:
            raise self.fault
        if snapshot.digest not in map(digest_of, self.signed):
            raise SignatureRejected(f"Nobody known has signed `{name}`.")
        return self.name
