"""Components in an OCI registry: ``<base repository>/<name>:<tag>``."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import TypeVar

from msgspec import Struct

from pharia_kernel.errors import ArtifactNotFound
from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.sharing import SingleFlight
from pharia_kernel.oci.types import Descriptor, is_digest, is_repository, is_tag
from pharia_kernel.skills.failures import printable
from pharia_kernel.skills.registry.base import Blob, Snapshot
from pharia_kernel.skills.registry.file import MAX_COMPONENT_SIZE
from pharia_kernel.skills.registry.layouts import is_index, wasm_layer, wasm_manifest

V = TypeVar("V")

RESOLUTION_LIFETIME = 1.0
"""Seconds for which reading a component uses the digest that its tag was found to have."""
_MANY = 4096


class _Component(Struct, frozen=True):
    """What does not change: content behind the digest of a manifest."""

    manifest_digest: str
    layer: Descriptor

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(
            self.layer.digest, self.layer.size, self.manifest_digest, self.manifest_digest
        )


class OciRegistry:
    """Tags may be digests (``sha256:...``), or have one (``v1@sha256:...``), which then counts.

    A snapshot's digest is the component layer's, so equal bytes are one version, however often
    they are pushed. Its manifest digest is that of what the tag names: of the index, if it is one.
    """

    def __init__(
        self,
        client: OciClient,
        base_repository: str = "",
        *,
        resolution_lifetime: float = RESOLUTION_LIFETIME,
    ) -> None:
        """The client is the caller's to close."""
        self._client = client
        self._base = base_repository.strip("/")
        self._lifetime = resolution_lifetime
        self._resolved: OrderedDict[Hashable, tuple[float, str]] = OrderedDict()
        self._components: OrderedDict[Hashable, _Component] = OrderedDict()
        self._resolving: SingleFlight[str] = SingleFlight()
        self._examining: SingleFlight[_Component] = SingleFlight()

    def locate(self, name: str) -> tuple[OciClient, str]:
        """The client and the repository of a skill.

        Raises ``ArtifactNotFound`` if there can't be a repository of that name.
        """
        repository = f"{self._base}/{name}" if self._base else name
        if not is_repository(repository):
            raise ArtifactNotFound(
                f"`{printable(repository)}` can't be a repository in an OCI registry: lower case "
                "letters, digits, and single `.`, `_` or `-` between them."
            )
        return self._client, repository

    async def snapshot(self, name: str, tag: str) -> Snapshot:
        return (await self._find(name, tag, afresh=True)).snapshot

    async def changed(self, name: str, tag: str, since: Snapshot) -> bool:
        _, repository = self.locate(name)
        reference = _reference(tag)
        if is_digest(reference):
            return since.signature != reference
        # Never from memory: somebody may have pushed a moment ago, and told us so.
        return await self._resolve(repository, reference, afresh=True) != since.signature

    async def read(self, name: str, tag: str) -> Blob:
        found = await self._find(name, tag)
        _, repository = self.locate(name)
        try:
            return await self._read(repository, found)
        except ArtifactNotFound:
            # Some registries drop content as soon as no tag names it.
            newer = await self._find(name, tag, afresh=True)
            if newer == found:
                raise
            return await self._read(repository, newer)

    async def close(self) -> None:
        await self._resolving.close()
        await self._examining.close()

    async def _read(self, repository: str, found: _Component) -> Blob:
        wasm = await self._client.blob(repository, found.layer, MAX_COMPONENT_SIZE)
        return Blob(wasm, found.snapshot)

    # --- from a tag to a component ----------------------------------------------------------------

    async def _find(self, name: str, tag: str, *, afresh: bool = False) -> _Component:
        _, repository = self.locate(name)
        reference = _reference(tag)
        if is_digest(reference):
            return await self._examine(repository, reference)
        digest = await self._resolve(repository, reference, afresh=afresh)
        try:
            return await self._examine(repository, digest)
        except ArtifactNotFound:
            # The tag was moved since, and the registry has dropped what it named.
            moved = await self._resolve(repository, reference, afresh=True)
            if moved == digest:
                raise
            return await self._examine(repository, moved)

    async def _resolve(self, repository: str, tag: str, *, afresh: bool = False) -> str:
        """The digest behind a tag, at most a moment old."""
        key = (repository, tag)
        known = None if afresh else self._resolved.get(key)
        if known and time.monotonic() - known[0] < self._lifetime:
            return known[1]
        return await self._resolving.do(key, lambda: self._ask(repository, tag))

    async def _ask(self, repository: str, tag: str) -> str:
        digest = await self._client.head(repository, tag)
        if digest is None:
            raise ArtifactNotFound(f"The registry does not have `{repository}:{tag}`.")
        _remember(self._resolved, (repository, tag), (time.monotonic(), digest))
        return digest

    async def _examine(self, repository: str, digest: str) -> _Component:
        key = (repository, digest)
        known = self._components.get(key)
        if known:
            return known
        return await self._examining.do(key, lambda: self._look_inside(repository, digest))

    async def _look_inside(self, repository: str, digest: str) -> _Component:
        manifest = await self._client.manifest(repository, digest)
        if is_index(manifest):
            manifest = await self._client.manifest(repository, wasm_manifest(manifest).digest)
        component = _Component(digest, wasm_layer(manifest))
        _remember(self._components, (repository, digest), component)
        return component


def _reference(tag: str) -> str:
    """The tag or the digest that counts. Raises ``ArtifactNotFound`` for anything else."""
    name, separator, digest = tag.rpartition("@")
    reference = digest if separator else tag
    valid = is_digest(reference) or (not separator and is_tag(reference))
    if not valid or (name and not is_tag(name)):
        raise ArtifactNotFound(
            f"`{printable(tag)}` is not a tag, nor a digest such as `sha256:...` (64 digits), nor "
            "both with an `@` between them."
        )
    return reference


def _remember(cache: OrderedDict[Hashable, V], key: Hashable, value: V) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > _MANY:
        cache.popitem(last=False)
