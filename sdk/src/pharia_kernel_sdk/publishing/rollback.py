"""Rolling back: a tag leads again to what it led to before.

Where the tag led before is noted in the annotations of what this SDK publishes. For what others
published, the kernel's history of the skill is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pharia_kernel_sdk.publishing import artifact as layout
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.reference import Reference, is_digest
from pharia_kernel_sdk.publishing.registry import Registry, parsed


@dataclass(frozen=True)
class RolledBack:
    """Digests of the manifests that the tag led to, and leads to now."""

    before: str
    digest: str


def previous(registry: Registry, reference: Reference) -> str | None:
    """Digest of the manifest that the tag led to before, if that is noted. Raises
    ``PublishError`` if the tag is not there, and ``RegistryError``."""
    annotations = parsed(_current(registry, reference)).get("annotations") or {}
    noted = annotations.get(layout.PREVIOUS)
    return noted if isinstance(noted, str) and is_digest(noted) else None


def roll_back(
    registry: Registry, reference: Reference, target: str | None, served: Sequence[str] = ()
) -> RolledBack:
    """``target`` is a tag or the digest of a manifest; none: the one before, or else the first of
    ``served`` (newest first) that came before it. Raises ``PublishError`` and
    ``RegistryError``."""
    before = layout.digest_of(_current(registry, reference))
    wanted = target or previous(registry, reference) or _older(served, before)
    if wanted is None:
        raise PublishError(
            f"Nothing tells what {reference} was before. Name a tag or the digest of a manifest "
            "with --to."
        )
    found = registry.get(wanted)
    if found is None:
        raise PublishError(
            f"{reference.registry}/{reference.repository} has no `{wanted}` any more."
        )
    manifest, media_type = found
    digest = layout.digest_of(manifest)
    if digest != before:
        registry.put(reference.tag, manifest, media_type)
    return RolledBack(before, digest)


def _older(served: Sequence[str], digest: str) -> str | None:
    """What was served before this was for the first time, so that rolling back twice does not lead
    forward again."""
    first = max((at for at, other in enumerate(served) if other == digest), default=-1)
    return next(iter(served[first + 1 :]), None)


def _current(registry: Registry, reference: Reference) -> bytes:
    found = registry.get(reference.tag)
    if found is None:
        raise PublishError(f"There is no {reference} to roll back.")
    return found[0]
