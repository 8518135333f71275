"""Signatures as cosign makes and stores them, made with `cryptography`."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.types import OCI_MANIFEST, Descriptor
from pharia_kernel.skills.registry.base import Snapshot
from pharia_kernel.skills.registry.oci import OciRegistry
from pharia_kernel.skills.signatures.keys import TrustedKey
from pharia_kernel.skills.signatures.statements import PREDICATES
from pharia_kernel.skills.signatures.verifier import SignatureVerifier, Trust
from tests.support.registry import plain, push_component, unique

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = "application/vnd.oci.empty.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
OTHER_DIGEST = f"sha256:{'ab' * 32}"


def sign(key: PrivateKey, content: bytes) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
            return key.sign(content, ec.ECDSA(hashes.SHA384()))
        case ec.EllipticCurvePrivateKey():
            return key.sign(content, ec.ECDSA(hashes.SHA256()))
        case rsa.RSAPrivateKey():
            return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        case _:
            return key.sign(content)


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


# --- what is signed -------------------------------------------------------------------------------


def simple_payload(digest: str, kind: str = "cosign container image signature") -> bytes:
    critical = {
        "identity": {"docker-reference": "registry.example.com/team/greet"},
        "image": {"docker-manifest-digest": digest},
        "type": kind,
    }
    return json.dumps({"critical": critical, "optional": None}).encode()


def statement(digest: str, predicate: str = PREDICATES[0]) -> bytes:
    algorithm, _, value = digest.partition(":")
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {algorithm: value}, "annotations": {}}],
            "predicateType": predicate,
            "predicate": {},
        }
    ).encode()


def encoded(payload: bytes, kind: str = IN_TOTO) -> bytes:
    """DSSE's pre-authentication encoding."""
    return f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload


def envelope(key: PrivateKey, payload: bytes, kind: str = IN_TOTO) -> dict[str, Any]:
    signature = b64(sign(key, encoded(payload, kind)))
    return {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": signature}]}


def key_bundle(**content: Any) -> dict[str, Any]:
    return {"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}}} | content


# --- where it is stored ---------------------------------------------------------------------------


class Signed:
    """A component in a repository of its own, and what is stored beside it."""

    def __init__(self, client: OciClient, name: str, digest: str) -> None:
        self.client = client
        self.name = name
        self.digest = digest
        self.snapshot = Snapshot(f"sha256:{'0' * 64}", 4, digest, digest)

    @classmethod
    async def push(cls, client: OciClient) -> Signed:
        name = unique("signed")
        return cls(client, name, await push_component(client, name, "latest", name.encode()))

    async def store_simple(
        self, *signatures: tuple[bytes, str | None], digest: str | None = None
    ) -> None:
        """Payloads and signatures (Base64), under the tag of the digest; replaces what is there."""
        layers = []
        for payload, signature in signatures:
            blob = await self.client.put_blob(self.name, payload, SIMPLE_SIGNING)
            annotations = {} if signature is None else {SIGNATURE: signature}
            layers.append({**plain(blob), "annotations": annotations})
        config = await self.client.put_blob(
            self.name, b"{}", "application/vnd.oci.image.config.v1+json"
        )
        tag = f"{(digest or self.digest).replace(':', '-')}.sig"
        await self._put(tag, {"config": plain(config), "layers": layers})

    async def sign_simple(self, *keys: PrivateKey) -> None:
        payload = simple_payload(self.digest)
        await self.store_simple(*((payload, b64(sign(key, payload))) for key in keys))

    async def store_bundle(
        self, bundle: dict[str, Any] | bytes, *, artifact_type: str = BUNDLE, layers: int = 1
    ) -> None:
        text = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
        blob = plain(await self.client.put_blob(self.name, text, BUNDLE))
        config = plain(await self.client.put_blob(self.name, b"{}", EMPTY))
        subject = Descriptor(OCI_MANIFEST, self.digest, await self._size())
        await self._put(
            f"bundle-{unique()}",
            {
                "artifactType": artifact_type,
                "config": config,
                "layers": [blob] * layers,
                "subject": plain(subject),
            },
        )

    async def sign_bundle(self, key: PrivateKey) -> None:
        await self.store_bundle(key_bundle(dsseEnvelope=envelope(key, statement(self.digest))))

    async def manifest(self) -> bytes:
        return (await self.client.manifest(self.name, self.digest)).body

    async def _size(self) -> int:
        return len(await self.manifest())

    async def _put(self, tag: str, manifest: dict[str, Any]) -> None:
        whole = {"schemaVersion": 2, "mediaType": OCI_MANIFEST} | manifest
        await self.client.put_manifest(self.name, tag, json.dumps(whole).encode(), OCI_MANIFEST)

    async def signer(self, trust: Trust, client: OciClient | None = None) -> str:
        """What a verifier says; ``client`` if not the one that pushed."""
        verifier = SignatureVerifier(OciRegistry(client or self.client), trust)
        return await verifier.verify(self.name, self.snapshot)


def trust_in(directory: Path, keys: Sequence[PrivateKey], stem: str = "team") -> Trust:
    """Of the public keys, each in a file ``team-<number>.pub``."""
    trusted = []
    for number, key in enumerate(keys):
        path = directory / f"{stem}-{number}.pub"
        path.write_bytes(public_pem(key))
        trusted.append(TrustedKey.read(path))
    return Trust(keys=tuple(trusted))
