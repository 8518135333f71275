"""Signatures stored beside an artifact.

Two places: manifests with Sigstore bundles that refer to the artifact (OCI referrers: cosign 3,
GitHub's attestations), and cosign's older one, a manifest with the tag `sha256-<digest>.sig`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from msgspec import Struct

from pharia_kernel.errors import ArtifactNotFound, BadRegistryAnswer, UnusableArtifact
from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.types import Descriptor
from pharia_kernel.skills.signatures.bundles import MEDIA_TYPE, Bundle, from_base64
from pharia_kernel.skills.signatures.statements import Unacceptable, decoded

MAX_SIGNATURES = 50
"""Looked at in one place; whoever may push to a repository could add any number."""
MAX_PAYLOAD = 64 * 1024
"""Bytes of a simple signing payload; a usual one has 300."""
MAX_BUNDLE = 1024 * 1024
"""Bytes of a bundle; one with the provenance of a large build has some ten thousand."""
_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_UNTYPED = (None, "", "application/vnd.oci.empty.v1+json")
"""Types of referrers that hide what they are: some clients wrote them to the fallback index."""


@dataclass(frozen=True)
class SimpleSignature:
    """In cosign's older format."""

    payload: bytes
    """What was signed."""
    signature: bytes


@dataclass(frozen=True)
class BundleSignature:
    text: bytes
    """JSON, as stored."""
    bundle: Bundle
    """The same, as far as it is needed here."""
    message: bytes | None
    """The manifest that it signs, if it does so directly."""


Signature = SimpleSignature | BundleSignature


class _Manifest(Struct, rename="camel"):
    layers: list[Descriptor] = []


class Artifact:
    """A manifest, by its digest, in one repository of a registry."""

    def __init__(self, client: OciClient, repository: str, digest: str) -> None:
        self._client = client
        self._repository = repository
        self._digest = digest

    async def bundles(self) -> AsyncIterator[BundleSignature | Unacceptable]:
        """Each signature, or what is wrong with it. Raises ``SkillUnavailable``."""
        referrers = await self._client.referrers(self._repository, self._digest)
        found = [r for r in referrers if _may_be_bundle(r.artifact_type)]
        for referrer in found[:MAX_SIGNATURES]:
            try:
                layers = await self._layers(referrer.digest)
                bundles = [layer for layer in layers if layer.media_type.startswith(MEDIA_TYPE)]
                if not bundles and referrer.artifact_type in _UNTYPED:
                    continue  # something else
                yield await self._bundle(bundles)
            except Unacceptable as error:
                yield error

    async def simple_signatures(self) -> AsyncIterator[SimpleSignature | Unacceptable]:
        """Each signature, or what is wrong with it. Raises ``SkillUnavailable``."""
        reference = await self._client.head(
            self._repository, f"{self._digest.replace(':', '-')}.sig"
        )
        if reference is None:
            return
        try:
            layers = await self._layers(reference)
        except Unacceptable as error:
            yield error
            return
        found = [layer for layer in layers if layer.media_type == _SIMPLE_SIGNING]
        for layer in found[:MAX_SIGNATURES]:
            try:
                yield await self._simple(layer)
            except Unacceptable as error:
                yield error

    async def _layers(self, digest: str) -> list[Descriptor]:
        with _unreadable_is_unacceptable():
            manifest = await self._client.manifest(self._repository, digest)
        return decoded(manifest.body, _Manifest, "its manifest").layers

    async def _bundle(self, layers: list[Descriptor]) -> BundleSignature:
        if len(layers) != 1:
            raise Unacceptable(f"is malformed: its manifest has {len(layers)} bundles and not one")
        text = await self._blob(layers[0], MAX_BUNDLE)
        bundle = Bundle.parse(text)
        message = None
        if bundle.message_signature:
            with _unreadable_is_unacceptable():
                message = (await self._client.manifest(self._repository, self._digest)).body
        return BundleSignature(text, bundle, message)

    async def _simple(self, layer: Descriptor) -> SimpleSignature:
        signature = (layer.annotations or {}).get(_SIGNATURE)
        if signature is None:
            raise Unacceptable(f"is malformed: its annotation `{_SIGNATURE}` is missing")
        return SimpleSignature(await self._blob(layer, MAX_PAYLOAD), from_base64(signature))

    async def _blob(self, descriptor: Descriptor, limit: int) -> bytes:
        with _unreadable_is_unacceptable():
            return await self._client.blob(self._repository, descriptor, limit)


def _may_be_bundle(artifact_type: str | None) -> bool:
    return artifact_type in _UNTYPED or (artifact_type or "").startswith(MEDIA_TYPE)


@contextmanager
def _unreadable_is_unacceptable() -> Iterator[None]:
    """A signature that is listed and not there, too long, or with a wrong digest counts as bad, so
    that it does not hide a good one; that the registry can't be asked is another matter."""
    try:
        yield
    except (ArtifactNotFound, BadRegistryAnswer, UnusableArtifact) as error:
        raise Unacceptable(f"can't be read: {error.detail}") from None
