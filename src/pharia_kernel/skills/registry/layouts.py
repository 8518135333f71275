"""Where in an OCI artifact the component is.

Understood are the layout of the CNCF's wasm working group, which ``pharia-skill`` and ``wkg`` push
(a config ``application/vnd.wasm.config.v0+json`` and one layer ``application/wasm``), older media
types of such layers, and a file ``*.wasm`` that was pushed as it is, as ``oras push`` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from pharia_kernel.errors import UnusableArtifact
from pharia_kernel.oci.types import INDEX_TYPES, MANIFEST_TYPES, Descriptor, Manifest, is_digest
from pharia_kernel.skills.failures import printable

WASM_CONFIG = "application/vnd.wasm.config.v0+json"
WASM_LAYER = "application/wasm"
WASM_LAYERS = frozenset(
    {
        WASM_LAYER,
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.module.wasm.content.layer.v1+wasm",
    }
)
TITLE = "org.opencontainers.image.title"
_PLAIN_FILES = frozenset({"application/octet-stream", "application/vnd.oci.image.layer.v1.tar"})
"""What ``oras push`` calls a file if it isn't told better; the second is its default."""
_ARCHITECTURES = frozenset({"wasm", "wasm32"})
_NOT_TO_RUN = "vnd.docker.reference.type"
"""Annotation of attestations, which stand in an index beside what they attest."""


class _Content(Struct):
    """Of a manifest or an index."""

    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


def wasm_manifest(index: Manifest) -> Descriptor:
    """The entry of an index that is the component's manifest. Raises ``UnusableArtifact``."""
    entries = [e for e in _read(index).manifests or () if not _is_attestation(e)]
    chosen = [entry for entry in entries if _is_for_wasm(entry)]
    if not chosen and len(entries) == 1 and entries[0].platform is None:
        chosen = entries
    if len(chosen) != 1:
        raise UnusableArtifact(
            f"The index lists {_count(len(chosen), 'manifest')} for WebAssembly among "
            f"{len(entries)}; there must be exactly one."
        )
    if chosen[0].media_type in INDEX_TYPES:
        raise UnusableArtifact("The index leads to another index instead of a manifest.")
    return chosen[0]


def is_index(manifest: Manifest) -> bool:
    return manifest.media_type in INDEX_TYPES


def wasm_layer(manifest: Manifest) -> Descriptor:
    """The layer that is the component. Raises ``UnusableArtifact``."""
    layers = _read(manifest).layers or []
    chosen = [layer for layer in layers if layer.media_type.lower() in WASM_LAYERS]
    chosen = chosen or [layer for layer in layers if _is_plain_wasm_file(layer)]
    if len(chosen) != 1:
        raise UnusableArtifact(
            f"The artifact has {_count(len(chosen), 'layer')} of WebAssembly; there must be "
            f"exactly one. {_list(layers)}"
        )
    if not is_digest(chosen[0].digest):
        raise UnusableArtifact("The artifact's component has no SHA-256 digest.")
    return chosen[0]


def _read(manifest: Manifest) -> _Content:
    if manifest.media_type not in MANIFEST_TYPES:
        raise UnusableArtifact(
            f"The registry has something of the type `{printable(manifest.media_type)}` there, "
            "which is no OCI artifact."
        )
    try:
        content = msgspec.json.decode(manifest.body, type=_Content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise UnusableArtifact("The manifest is not as the OCI specification wants it.") from None
    if content.layers is not None and content.manifests is not None:
        # One reader could take it for a manifest and another for an index, with other content.
        raise UnusableArtifact("The manifest is at the same time an index.")
    return content


def _is_attestation(entry: Descriptor) -> bool:
    return _NOT_TO_RUN in (entry.annotations or {})


def _is_for_wasm(entry: Descriptor) -> bool:
    architecture = entry.platform.architecture if entry.platform else ""
    return architecture in _ARCHITECTURES or entry.artifact_type == WASM_CONFIG


def _is_plain_wasm_file(layer: Descriptor) -> bool:
    title = (layer.annotations or {}).get(TITLE, "")
    return layer.media_type.lower() in _PLAIN_FILES and title.endswith(".wasm")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _list(layers: Sequence[Descriptor]) -> str:
    if not layers:
        return "It has no layers at all."
    types = ", ".join(f"`{printable(layer.media_type, 80)}`" for layer in layers[:5])
    return f"Its layers are: {types}{', ...' if len(layers) > 5 else ''}."
