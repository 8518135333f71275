from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pharia_kernel.errors import UnusableArtifact
from pharia_kernel.oci.types import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, Manifest, digest_of
from pharia_kernel.skills.registry.layouts import WASM_CONFIG, wasm_layer, wasm_manifest

MANIFESTS = Path(__file__).parent / "manifests"
"""As programs pushed them; the names tell which."""
GREET = "sha256:727192fe82efae64cfcaa8ff75a79a0ca678669b7d80276c6a17fd8ed51b282f"
TITLE = "org.opencontainers.image.title"
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")


def manifest(media_type: str = OCI_MANIFEST, **content: Any) -> Manifest:
    body = json.dumps({"schemaVersion": 2, **content}).encode()
    return Manifest(digest_of(body), media_type, body)


def layer(media_type: str, digest: str = ONE, title: str = "") -> dict[str, Any]:
    annotations = {TITLE: title} if title else None
    return {"mediaType": media_type, "digest": digest, "size": 5, "annotations": annotations}


@pytest.mark.parametrize("file", sorted(MANIFESTS.iterdir()), ids=lambda file: file.stem)
def test_what_programs_push(file: Path) -> None:
    body = file.read_bytes()
    found = wasm_layer(Manifest(digest_of(body), OCI_MANIFEST, body))
    assert (found.digest, found.size) == (GREET, 12322259)


@pytest.mark.parametrize(
    "layers",
    [
        [layer("application/wasm")],
        [layer("Application/WASM")],
        [layer("application/vnd.wasm.content.layer.v1+wasm")],
        [layer("application/vnd.module.wasm.content.layer.v1+wasm")],
        [layer("application/octet-stream", title="greet.wasm")],
        [layer("application/vnd.oci.image.layer.v1.tar", title="greet.wasm")],
        [layer("text/plain", TWO, "README.md"), layer("application/wasm")],
        [layer("application/octet-stream", TWO, "x.wasm"), layer("application/wasm")],
        [layer("text/plain", TWO, "x.wasm"), layer("application/octet-stream", ONE, "y.wasm")],
    ],
)
def test_the_one_layer(layers: list[dict[str, Any]]) -> None:
    assert wasm_layer(manifest(layers=layers)).digest == ONE


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"layers": []}, "no layers of WebAssembly; .* no layers at all"),
        ({}, "no layers at all"),
        ({"layers": [layer("application/wasm")] * 2}, "2 layers of WebAssembly"),
        ({"layers": [layer("application/octet-stream", ONE, "x.wasm")] * 2}, "2 layers"),
        ({"layers": [layer("application/octet-stream")]}, "are: `application/octet-stream`"),
        ({"layers": [layer("application/vnd.oci.image.layer.v1.tar+gzip")]}, r"tar\+gzip`\."),
        ({"layers": [layer("evil\n\x1b[31m" * 99)]}, r"`evil\\n\\x1b"),
        ({"layers": [layer("text/plain")] * 9}, r"`, \.\.\.\."),
        ({"layers": [layer("application/wasm", "sha512:" + "1" * 128)]}, "no SHA-256 digest"),
        ({"layers": [layer("application/wasm", "../../x")]}, "no SHA-256 digest"),
        ({"layers": [{"mediaType": "application/wasm"}]}, "not as the OCI specification"),
        ({"layers": "x"}, "not as the OCI specification"),
        ({"layers": [layer("application/wasm")], "manifests": []}, "at the same time an index"),
    ],
)
def test_artifacts_of_no_use(content: dict[str, Any], told: str) -> None:
    with pytest.raises(UnusableArtifact, match=told) as caught:
        wasm_layer(manifest(**content))
    assert len(caught.value.detail) < 1000
    assert caught.value.detail.isprintable()


def test_other_things_in_a_registry() -> None:
    with pytest.raises(UnusableArtifact, match="`text/html` there, which is no OCI artifact"):
        wasm_layer(manifest("text/html", layers=[layer("application/wasm")]))


# --- indexes -------------------------------------------------------------------------------------


def entry(digest: str, architecture: str | None = None, **fields: Any) -> dict[str, Any]:
    platform = {"platform": {"architecture": architecture, "os": "wasip2"}} if architecture else {}
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": 5, **platform, **fields}


ATTESTATION = entry(
    THREE, "unknown", annotations={"vnd.docker.reference.type": "attestation-manifest"}
)


@pytest.mark.parametrize(
    "entries",
    [
        [entry(ONE, "wasm")],
        [entry(TWO, "amd64"), entry(ONE, "wasm"), ATTESTATION],
        [entry(TWO, "amd64"), entry(ONE, "wasm32")],
        [entry(TWO), entry(ONE, artifactType=WASM_CONFIG)],
        [entry(ONE)],
        [entry(ONE), ATTESTATION],
    ],
)
@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_the_one_entry(media_type: str, entries: list[dict[str, Any]]) -> None:
    assert wasm_manifest(manifest(media_type, manifests=entries)).digest == ONE


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([], "no manifests for WebAssembly among 0"),
        ([ATTESTATION], "among 0"),
        ([entry(ONE, "amd64"), entry(TWO, "arm64")], "no manifests for WebAssembly among 2"),
        ([entry(ONE, "amd64")], "among 1"),
        ([entry(ONE, "wasm"), entry(TWO, "wasm")], "2 manifests for WebAssembly"),
        ([entry(ONE), entry(TWO)], "among 2"),
        ([entry(ONE) | {"mediaType": OCI_INDEX}], "another index"),
    ],
)
def test_indexes_of_no_use(entries: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(UnusableArtifact, match=told):
        wasm_manifest(manifest(OCI_INDEX, manifests=entries))
