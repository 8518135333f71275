"""Public keys of signers, and what they signed. Works without any network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from nacl.bindings import (
    crypto_sign_ed25519ph_final_verify,
    crypto_sign_ed25519ph_state,
    crypto_sign_ed25519ph_update,
)
from nacl.exceptions import CryptoError

from pharia_kernel.skills.signatures.bundles import from_base64
from pharia_kernel.skills.signatures.finding import BundleSignature, Signature, SimpleSignature
from pharia_kernel.skills.signatures.statements import (
    Unacceptable,
    check_simple_payload,
    check_statement,
)

MIN_RSA_BITS = 2048
_MAX_FILE = 64 * 1024

Check = Callable[[bytes, bytes], None]
"""Of a signature and what was signed; raises ``InvalidSignature``."""


class UnusableKey(Exception):
    """The text says which file, and what is wrong with it."""


@dataclass(frozen=True)
class TrustedKey:
    """Equal if name and key are the same."""

    name: str
    """Of its file, without the directory."""
    fingerprint: str
    """SHA-256 of the key's DER form, in hexadecimal."""
    checks: tuple[Check, ...] = field(compare=False, repr=False)
    """One for each hash function that signers use with this kind of key."""

    @classmethod
    def read(cls, path: Path) -> TrustedKey:
        """From a PEM file with a public key: ECDSA on P-256 or P-384, Ed25519, or RSA with at least
        2048 bits. Raises ``UnusableKey``."""
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_FILE)
        except OSError as error:
            raise UnusableKey(f"`{path}` can't be read: {error.strerror}") from None
        if text.count(b"-----BEGIN ") != 1:
            raise UnusableKey(f"`{path}` is not a PEM file with one public key")
        try:
            key = serialization.load_pem_public_key(text)
        except (ValueError, UnsupportedAlgorithm):
            raise UnusableKey(f"`{path}` is not a PEM file with a public key") from None
        der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        checks = _checks(key)
        if not checks:
            raise UnusableKey(
                f"`{path}` is a key of a kind that is not accepted; accepted are ECDSA on P-256 or "
                f"P-384, Ed25519, and RSA with {MIN_RSA_BITS} bits or more"
            )
        return cls(path.name, hashlib.sha256(der).hexdigest(), checks)

    def made(self, signature: bytes, signed: bytes) -> bool:
        return any(_holds(check, signature, signed) for check in self.checks)


def signer(keys: tuple[TrustedKey, ...], found: Signature, digest: str) -> str:
    """The name of the key that signed the manifest with this digest.

    Raises ``Unacceptable``.
    """
    match found:
        case SimpleSignature(payload, signature):
            name = _maker(keys, [signature], payload)
            check_simple_payload(payload, digest)
        case BundleSignature(_, bundle, message):
            envelope = bundle.dsse_envelope
            if envelope is not None:
                name = _maker(keys, envelope.signature_bytes(), envelope.signed_bytes())
                check_statement(envelope.payload_type, envelope.payload_bytes(), digest)
            else:
                assert bundle.message_signature is not None
                assert message is not None
                signature = from_base64(bundle.message_signature.signature)
                name = _maker(keys, [signature], message)
    return name


def _maker(keys: tuple[TrustedKey, ...], signatures: list[bytes], signed: bytes) -> str:
    for key in keys:
        if any(key.made(signature, signed) for signature in signatures):
            return key.name
    names = ", ".join(key.name for key in keys)
    raise Unacceptable(f"was not made with the key {names}")


def _checks(key: object) -> tuple[Check, ...]:
    match key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return (_ecdsa(key, hashes.SHA256()),)
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            # cosign used to take SHA-256 for keys of all sizes.
            return (_ecdsa(key, hashes.SHA384()), _ecdsa(key, hashes.SHA256()))
        case ed25519.Ed25519PublicKey():
            return (key.verify, _ed25519ph(key))  # cosign makes the second kind
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return (lambda s, d: key.verify(s, d, padding.PKCS1v15(), hashes.SHA256()),)
    return ()


def _ecdsa(key: ec.EllipticCurvePublicKey, algorithm: hashes.HashAlgorithm) -> Check:
    return lambda signature, signed: key.verify(signature, signed, ec.ECDSA(algorithm))


def _ed25519ph(key: ed25519.Ed25519PublicKey) -> Check:
    """The variant that signs a hash (RFC 8032, section 5.1), which `cryptography` does not have."""
    raw = key.public_bytes_raw()

    def check(signature: bytes, signed: bytes) -> None:
        state = crypto_sign_ed25519ph_state()
        crypto_sign_ed25519ph_update(state, signed)
        try:
            crypto_sign_ed25519ph_final_verify(state, signature, raw)
        except CryptoError:
            raise InvalidSignature from None

    return check


def _holds(check: Check, signature: bytes, signed: bytes) -> bool:
    try:
        check(signature, signed)
    except InvalidSignature:
        return False
    return True
