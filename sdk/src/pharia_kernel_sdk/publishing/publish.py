"""Publishing: a component gets a place in a registry, and a tag that leads to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pharia_kernel_sdk.build.component import metadata_of
from pharia_kernel_sdk.publishing import artifact as layout
from pharia_kernel_sdk.publishing.artifact import Artifact, Blob
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.progress import Progress, silent
from pharia_kernel_sdk.publishing.reference import Reference
from pharia_kernel_sdk.publishing.registry import Registry, parsed
from pharia_kernel_sdk.publishing.revision import revision_of
from pharia_kernel_sdk.publishing.signing import SigningKey, sign
from pharia_kernel_sdk.publishing.surface import Surface, surface_of


@dataclass(frozen=True)
class Prepared:
    """A component that turned out to be a skill, and what there is to say of it."""

    file: Path
    surface: Surface
    artifact: Artifact

    @property
    def size(self) -> int:
        """Bytes of the component."""
        return len(self.artifact.layer.content)


@dataclass
class Published:
    """What the tag leads to now, and what it took."""

    reference: Reference
    digest: str
    """Of the manifest."""
    component: str
    """Digest of the component's bytes."""
    size: int
    """Bytes of the component."""
    previous: str | None = None
    """Digest of the manifest that the tag led to before, if it was another."""
    pushed: int = 0
    """Bytes of blobs that were sent."""
    skipped: list[str] = field(default_factory=list)
    """What the registry had already."""
    signed_with: str | None = None
    """Name of the key whose signature is there."""
    rehearsed: bool = False
    """Nothing was changed: this is what would be."""


def prepare(file: Path, reference: Reference) -> Prepared:
    """Raises ``PublishError`` if the file is not a skill."""
    try:
        component = file.read_bytes()
    except OSError as error:
        raise PublishError(f"{file} can't be read: {error.strerror}.") from None
    surface = surface_of(component, str(file))
    artifact = layout.artifact_of(
        component,
        surface,
        metadata_of(component) or {},
        name=reference.name,
        tag_version=reference.tag if reference.looks_immutable else None,
        revision=revision_of(file.resolve().parent),
    )
    return Prepared(file, surface, artifact)


def publish(
    registry: Registry,
    reference: Reference,
    prepared: Prepared,
    *,
    key: SigningKey | None = None,
    force: bool = False,
    rehearse: bool = False,
    progress: Progress = silent,
) -> Published:
    """The tag is moved last, so that nobody finds an artifact that is not whole or not signed yet.

    Nothing is pushed if the tag leads to the same already. Raises ``PublishError`` if the tag looks
    immutable and leads to another component, unless ``force``; and ``RegistryError``. To
    ``rehearse`` is to ask the registry everything, and to change nothing.
    """
    artifact = prepared.artifact
    progress(f"Asking {reference.registry} what {reference.tag} is")
    found = registry.get(reference.tag)
    current = found[0] if found else None
    if current is not None and _may_stay(reference, artifact, current):
        published = _published(reference, prepared, current)
        published.skipped += ["component", "config", "manifest"]
        published.rehearsed = rehearse
        if rehearse:
            return published
        _sign(registry, key, published, progress)
        return published
    previous = None if current is None else layout.digest_of(current)
    if previous and reference.looks_immutable and not force:
        raise PublishError(_taken(reference, previous))
    manifest = artifact.manifest(previous)
    published = _published(reference, prepared, manifest, previous)
    if rehearse:
        return _rehearsed(registry, artifact, published)
    _push(registry, "component", artifact.layer, published, progress)
    _push(registry, "config", artifact.config, published, progress)
    registry.put(published.digest, manifest)
    _sign(registry, key, published, progress)
    registry.put(reference.tag, manifest)
    return published


def _published(
    reference: Reference, prepared: Prepared, manifest: bytes, previous: str | None = None
) -> Published:
    component = prepared.artifact.layer.digest
    return Published(reference, layout.digest_of(manifest), component, prepared.size, previous)


def _rehearsed(registry: Registry, artifact: Artifact, published: Published) -> Published:
    published.rehearsed = True
    for what, blob in (("component", artifact.layer), ("config", artifact.config)):
        if registry.has(blob.digest):
            published.skipped.append(what)
        else:
            published.pushed += len(blob.content)
    return published


def _may_stay(reference: Reference, artifact: Artifact, current: bytes) -> bool:
    """A tag that looks immutable stays if only what is said of the component is different."""
    manifest = parsed(current)
    if reference.looks_immutable:
        return artifact.same_component(manifest)
    return artifact.same(manifest)


def _taken(reference: Reference, digest: str) -> str:
    return (
        f"{reference} is another component already ({digest}), and others may rely on such a tag "
        "to stay what it is. Choose a new tag, or move this one with --force."
    )


def _push(
    registry: Registry, what: str, blob: Blob, published: Published, progress: Progress
) -> None:
    size = len(blob.content)
    doing = f"Pushing the {what}"
    progress(doing)
    if registry.push(
        blob, lambda sent: progress(doing, f"{sent / size:.0%} of {size / 1e6:.1f} MB")
    ):
        published.pushed += size
    else:
        published.skipped.append(what)


def _sign(
    registry: Registry, key: SigningKey | None, published: Published, progress: Progress
) -> None:
    if key is None:
        return
    progress(f"Signing with {key.name}")
    if not sign(registry, published.reference, published.digest, key):
        published.skipped.append("signature")
    published.signed_with = key.name
