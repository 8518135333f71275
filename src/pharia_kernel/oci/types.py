"""What registries hold: content addressed by digest, and the names that lead to it."""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct

MAX_MANIFEST_SIZE = 4 << 20
"""Bytes; registries must accept manifests of this size, and few accept larger ones."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LONGEST_REPOSITORY = 255


class Platform(Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Descriptor(Struct, frozen=True, rename="camel"):
    """A reference to content (OCI image specification, "Content Descriptors")."""

    media_type: str
    digest: str
    """``sha256:`` and 64 hexadecimal digits; other algorithms are refused where they are used."""
    size: int
    """Bytes."""
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None
    platform: Platform | None = None


class Manifest(Struct, frozen=True):
    digest: str
    """Computed from ``body``."""
    media_type: str
    body: bytes
    """Exactly as the registry holds it."""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def is_repository(text: str) -> bool:
    return len(text) <= _LONGEST_REPOSITORY and _REPOSITORY.fullmatch(text) is not None


def place(repository: str, reference: str) -> str:
    """``repository:tag`` or ``repository@digest``, as people write it."""
    return f"{repository}{'@' if ':' in reference else ':'}{reference}"
