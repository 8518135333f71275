"""Signatures as cosign makes and stores them with a key ("simple signing": cosign 1 and 2 make it,
all versions and the kernel accept it).

Payload: https://github.com/containers/image/blob/main/docs/containers-signature.5.md
Place: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
Encrypted keys: ``encrypted/encrypted.go`` of https://github.com/secure-systems-lab/go-securesystemslib
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from nacl.bindings import (
    crypto_sign_ed25519ph_final_create,
    crypto_sign_ed25519ph_state,
    crypto_sign_ed25519ph_update,
)
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from pharia_kernel_sdk.publishing.artifact import MANIFEST, Blob, encoded
from pharia_kernel_sdk.publishing.errors import PublishError
from pharia_kernel_sdk.publishing.reference import Reference
from pharia_kernel_sdk.publishing.registry import Registry, parsed

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_EPOCH = "0001-01-01T00:00:00Z"
_MIN_RSA_BITS = 2048
_MAX_SCRYPT_MEMORY = 1 << 28
"""Bytes; cosign's parameters take 32 or 64 MiB."""
_ENCRYPTED = re.compile(
    rb"-----BEGIN ENCRYPTED (?:SIGSTORE|COSIGN) PRIVATE KEY-----\s(.*?)-----END", re.S
)

Sign = Callable[[bytes], bytes]
Password = Callable[[], str]
"""Called if the key turns out to be encrypted."""


class SigningKey:
    """A private key: one of ``cosign generate-key-pair``, or PEM (PKCS #8, SEC 1, PKCS #1), of a
    kind that the kernel accepts."""

    def __init__(self, name: str, sign: Sign) -> None:
        self.name = name
        self._sign = sign

    @classmethod
    def read(cls, path: Path, password: Password) -> SigningKey:
        """Raises ``PublishError``."""
        try:
            text = path.read_bytes()
        except OSError as error:
            raise PublishError(f"The key {path} can't be read: {error.strerror}.") from None
        return cls(path.name, _signer(_loaded(path, text, password), path))

    def sign(self, payload: bytes) -> bytes:
        return self._sign(payload)


def sign(registry: Registry, reference: Reference, digest: str, key: SigningKey) -> bool:
    """Store a signature of the manifest beside those that others made of it. False if this key's is
    there already. Raises ``RegistryError``."""
    payload = _payload(reference, digest)
    tag = f"{digest.replace(':', '-')}.sig"
    found = registry.get(tag)
    layers = list(parsed(found[0]).get("layers") or []) if found else []
    signature = base64.b64encode(key.sign(payload)).decode()
    if any((layer.get("annotations") or {}).get(SIGNATURE) == signature for layer in layers):
        return False  # this kind of key always makes the same signature
    blob = Blob(SIMPLE_SIGNING, payload)
    layers.append({**blob.descriptor(), "annotations": {SIGNATURE: signature}})
    config = _config(layers)
    registry.push(blob)
    registry.push(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": layers,
    }
    registry.put(tag, encoded(manifest))
    return True


def _payload(reference: Reference, digest: str) -> bytes:
    place = f"{reference.registry}/{reference.repository}"
    return encoded(
        {
            "critical": {
                "identity": {"docker-reference": place},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )


def _config(layers: list[dict[str, Any]]) -> Blob:
    """An image's, because cosign stores signatures as one."""
    config = {
        "architecture": "",
        "created": _EPOCH,
        "history": [{"created": _EPOCH} for _ in layers],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        "config": {},
    }
    return Blob(_CONFIG, encoded(config))


# --- keys -----------------------------------------------------------------------------------------


def _loaded(path: Path, text: bytes, password: Password) -> object:
    try:
        if match := _ENCRYPTED.search(text):
            der = _decrypted(path, match[1], password())
            return serialization.load_der_private_key(der, None)
        secret = password().encode() if b"ENCRYPTED" in text else None
        return serialization.load_pem_private_key(text, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PublishError(
            f"{path} is no private key in PEM, or its password is wrong. `cosign "
            "generate-key-pair` makes one."
        ) from None


def _decrypted(path: Path, body: bytes, password: str) -> bytes:
    """scrypt and NaCl's secretbox. Raises ``ValueError`` if it is malformed."""
    try:
        sealed = json.loads(base64.b64decode(b"".join(body.split()), validate=True))
        kdf, cipher = sealed["kdf"], sealed["cipher"]
        if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
            raise ValueError("another encryption")
        cost = kdf["params"]
        key = hashlib.scrypt(
            password.encode(),
            salt=base64.b64decode(kdf["salt"]),
            n=cost["N"],
            r=cost["r"],
            p=cost["p"],
            maxmem=_MAX_SCRYPT_MEMORY,
            dklen=SecretBox.KEY_SIZE,
        )
        ciphertext, nonce = (
            base64.b64decode(sealed["ciphertext"]),
            base64.b64decode(cipher["nonce"]),
        )
        return bytes(SecretBox(key).decrypt(ciphertext, nonce))
    except CryptoError:
        raise PublishError(
            f"The password of the key {path} is wrong; COSIGN_PASSWORD holds it where nobody can "
            "be asked."
        ) from None
    except (LookupError, TypeError) as error:
        raise ValueError(error) from None


def _signer(key: object, path: Path) -> Sign:
    match key:
        case ec.EllipticCurvePrivateKey(curve=ec.SECP256R1()):
            return lambda payload: key.sign(payload, ec.ECDSA(hashes.SHA256()))
        case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
            return lambda payload: key.sign(payload, ec.ECDSA(hashes.SHA384()))
        case ed25519.Ed25519PrivateKey():
            return _ed25519ph(key)
        case rsa.RSAPrivateKey() if key.key_size >= _MIN_RSA_BITS:
            return lambda payload: key.sign(payload, padding.PKCS1v15(), hashes.SHA256())
    raise PublishError(
        f"{path} is a key of a kind that kernels don't accept: they take ECDSA on P-256 or P-384, "
        f"Ed25519, and RSA with at least {_MIN_RSA_BITS} bits."
    )


def _ed25519ph(key: ed25519.Ed25519PrivateKey) -> Sign:
    """The prehashed variant (RFC 8032, section 5.1), as cosign has it; `cryptography` has not."""
    secret = key.private_bytes_raw() + key.public_key().public_bytes_raw()

    def made(payload: bytes) -> bytes:
        state = crypto_sign_ed25519ph_state()
        crypto_sign_ed25519ph_update(state, payload)
        return crypto_sign_ed25519ph_final_create(state, secret)

    return made
