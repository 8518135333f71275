"""As much of a Sigstore bundle as is needed to check it with a public key.

The `sigstore` library reads bundles too, but only those with a certificate and a log entry.
Format: https://docs.sigstore.dev/about/bundle/
"""

from __future__ import annotations

import base64
import binascii

from msgspec import Struct

from pharia_kernel.skills.signatures.statements import Unacceptable, decoded

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle"
"""What the media types of all versions begin with."""
MAX_SIGNERS = 10
"""Of one statement; clients make one signature, and each costs time for each key."""
_FROM_URL_SAFE = str.maketrans("-_", "+/")


class MessageSignature(Struct):
    signature: str


class DsseSignature(Struct):
    sig: str


class Envelope(Struct, rename="camel"):
    """A DSSE envelope (https://github.com/secure-systems-lab/dsse)."""

    payload: str
    payload_type: str
    signatures: list[DsseSignature]

    def signed_bytes(self) -> bytes:
        """The pre-authentication encoding: what the signatures are made of."""
        kind, payload = self.payload_type.encode(), self.payload_bytes()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)

    def signature_bytes(self) -> list[bytes]:
        if len(self.signatures) > MAX_SIGNERS:
            raise Unacceptable(f"is malformed: more than {MAX_SIGNERS} signatures in one envelope")
        return [from_base64(each.sig) for each in self.signatures]

    def payload_bytes(self) -> bytes:
        return from_base64(self.payload)


class VerificationMaterial(Struct, rename="camel"):
    public_key: dict[str, str] | None = None


class Bundle(Struct, rename="camel"):
    media_type: str
    verification_material: VerificationMaterial
    message_signature: MessageSignature | None = None
    """Of the manifest's bytes."""
    dsse_envelope: Envelope | None = None

    @property
    def made_with_key(self) -> bool:
        """Whether the signer had a key of their own, and no certificate."""
        return self.verification_material.public_key is not None

    @classmethod
    def parse(cls, text: bytes) -> Bundle:
        """Raises ``Unacceptable``."""
        bundle = decoded(text, cls, "the bundle")
        if not bundle.media_type.startswith(MEDIA_TYPE):
            raise Unacceptable(f"is malformed: `{bundle.media_type}` is no Sigstore bundle")
        if (bundle.message_signature is None) == (bundle.dsse_envelope is None):
            raise Unacceptable("is malformed: the bundle must have one kind of signature")
        return bundle


def from_base64(text: str) -> bytes:
    """Of either alphabet; raises ``Unacceptable``."""
    try:
        return base64.b64decode(text.translate(_FROM_URL_SAFE), validate=True)
    except (binascii.Error, ValueError):
        raise Unacceptable("is malformed: a part is not Base64") from None
