"""A skill as an OCI artifact, in the layout of the CNCF's wasm working group.

A manifest with one layer ``application/wasm`` (the component as it is) and a config that lists its
imports and exports (https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/). The
annotations of the manifest say what the skill is, so that nobody has to pull it to find out.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

from pharia_kernel_sdk import version
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.revision import Revision
from pharia_kernel_sdk.publishing.surface import Surface

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.wasm.config.v0+json"
LAYER = "application/wasm"

TITLE = "org.opencontainers.image.title"
DESCRIPTION = "org.opencontainers.image.description"
CREATED = "org.opencontainers.image.created"
REVISION = "org.opencontainers.image.revision"
SOURCE = "org.opencontainers.image.source"
VERSION = "org.opencontainers.image.version"
KIND = "pharia.skill.kind"
SDK = "pharia.skill.sdk"
WIT = "pharia.skill.wit"
INPUT_SCHEMA = "pharia.skill.input-schema"
OUTPUT_SCHEMA = "pharia.skill.output-schema"
PREVIOUS = "pharia.skill.previous"
"""Digest of the manifest that the tag named before."""

_NOT_CONTENT = frozenset({CREATED, PREVIOUS})
"""Annotations about the act of publishing."""
_MOST_ANNOTATED = 512 * 1024
"""Characters of a schema. Registries must take manifests of 4 MiB, and kernels read no larger."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Blob:
    """Content of a registry, and what kind it is."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    def descriptor(self) -> dict[str, Any]:
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.content),
        }


@dataclass(frozen=True)
class Artifact:
    """What is pushed. The manifest comes last: registries want its blobs first."""

    layer: Blob
    config: Blob
    annotations: dict[str, str]

    def manifest(self, previous: str | None = None) -> bytes:
        """``previous`` is the digest that the tag named before, if any."""
        link = {PREVIOUS: previous} if previous else {}
        return encoded(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.config.descriptor(),
                "layers": [self.layer.descriptor()],
                "annotations": {**self.annotations, **link},
            }
        )

    def same_component(self, manifest: Manifest) -> bool:
        """Whether that manifest has the same bytes to run."""
        return component_digest(manifest) == self.layer.digest

    def same(self, manifest: Manifest) -> bool:
        """The same, and says the same of it, but for when it was published."""
        said = manifest.get("annotations") or {}
        return self.same_component(manifest) and _content(said) == _content(self.annotations)


def artifact_of(
    component: bytes,
    surface: Surface,
    metadata: dict[str, Any],
    *,
    name: str,
    tag_version: str | None = None,
    revision: Revision | None = None,
) -> Artifact:
    """``metadata`` is what the build noted in the component, if this SDK built it; ``tag_version``
    is the version that the tag names."""
    created = _now()
    layer = Blob(LAYER, component)
    config = {
        "created": created,
        "author": None,
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer.digest],
        "component": {"exports": surface.exports, "imports": surface.imports, "target": None},
    }
    known = {
        TITLE: name,
        DESCRIPTION: metadata.get("description"),
        CREATED: created,
        VERSION: tag_version,
        REVISION: revision and revision.commit,
        SOURCE: revision and revision.source,
        KIND: surface.kind,
        SDK: _sdk(metadata),
        WIT: surface.wit_version,
        INPUT_SCHEMA: _schema(metadata, "input_schema"),
        OUTPUT_SCHEMA: _schema(metadata, "output_schema"),
    }
    annotations = {key: str(value) for key, value in known.items() if value}
    return Artifact(layer, Blob(CONFIG, encoded(config)), annotations)


def component_digest(manifest: Manifest) -> str | None:
    """Of the layer, if the manifest has one only."""
    layers = manifest.get("layers") or []
    return str(layers[0].get("digest")) if len(layers) == 1 else None


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _content(annotations: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key not in _NOT_CONTENT}


def _sdk(metadata: dict[str, Any]) -> str | None:
    built_with = metadata.get("sdk")
    return f"{version.DISTRIBUTION} {built_with}" if built_with else None


def _schema(metadata: dict[str, Any], key: str) -> str | None:
    schema = metadata.get(key)
    text = encoded(schema).decode() if schema is not None else ""
    return text if 0 < len(text) <= _MOST_ANNOTATED else None


def _now() -> str:
    """RFC 3339; the time that ``SOURCE_DATE_EPOCH`` names, for reproducible publishing."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = dt.datetime.fromtimestamp(int(given), dt.UTC) if given else dt.datetime.now(dt.UTC)
    except (ValueError, OverflowError, OSError):
        raise PublishError(f"SOURCE_DATE_EPOCH is `{given}`: no number of seconds.") from None
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
