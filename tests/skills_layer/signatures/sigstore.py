"""A Sigstore of our own: certificate authority, certificate log and transparency log.

It makes what clients make with the public instance, so that the whole check runs offline against
its trust root. Formats: RFC 6962 (SCTs, Merkle trees), Rekor's signed entry timestamps and
checkpoints, https://github.com/sigstore/fulcio/blob/main/docs/certificate-specification.md
"""

from __future__ import annotations

import datetime
import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.skills_layer.signatures.support import BUNDLE, b64, envelope, sign

ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
ISSUER_V1_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
ISSUER = "https://accounts.example.com"
EMAIL = "anna@example.com"
_ORIGIN = "log.example.com - 1"
_SHA256_ECDSA = b"\x04\x03"
_SIGNED = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
_MINUTE = datetime.timedelta(minutes=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(der(key)).digest()


def tlv(tag: int, content: bytes) -> bytes:
    """DER, for up to 64 KiB."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    return bytes([tag, 0x82]) + struct.pack("!H", size) + content


@dataclass(frozen=True)
class Signer:
    """A key, and the certificate that was issued for it."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@dataclass
class Sigstore:
    authority: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificate_log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log: ec.EllipticCurvePrivateKey = field(default_factory=new_key)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fulcio.example.com")])
        key = self.authority.public_key()
        usage = dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        self.root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key)
            .serial_number(1)
            .not_valid_before(_SIGNED - 1000 * _MINUTE)
            .not_valid_after(_SIGNED + 1000 * _MINUTE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self.authority, hashes.SHA256())
        )

    # --- what verifiers know ----------------------------------------------------------------------

    def trust_root(self) -> bytes:
        """Content of a `trusted_root.json`."""
        certificate = b64(self.root.public_bytes(serialization.Encoding.DER))
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [_log_instance(self.log)],
                "certificateAuthorities": [
                    {
                        "subject": {"organization": "example", "commonName": "example"},
                        "uri": "https://fulcio.example.com",
                        "certChain": {"certificates": [{"rawBytes": certificate}]},
                        "validFor": {"start": "2026-01-01T00:00:00Z"},
                    }
                ],
                "ctlogs": [_log_instance(self.certificate_log)],
                "timestampAuthorities": [],
            }
        ).encode()

    # --- what signers get -------------------------------------------------------------------------

    def signer(
        self,
        subject: str = EMAIL,
        issuer: str = ISSUER,
        *,
        old_issuer: bool = False,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
    ) -> Signer:
        """With a certificate for ten minutes. ``old_issuer`` is the issuer's older extension."""
        key = new_key()
        name: x509.GeneralName = x509.RFC822Name(subject)
        if "://" in subject:
            name = x509.UniformResourceIdentifier(subject)
        issuer_extension = (
            x509.UnrecognizedExtension(ISSUER_V1_OID, issuer.encode())
            if old_issuer
            else x509.UnrecognizedExtension(ISSUER_OID, tlv(0x0C, issuer.encode()))
        )
        key_usage = x509.KeyUsage(**dict.fromkeys(_USAGES, False) | {"digital_signature": True})
        authority = self.authority.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_SIGNED - 5 * _MINUTE)
            .not_valid_after(_SIGNED + 5 * _MINUTE)
            .add_extension(key_usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(issuer_extension, critical=False)
        )
        unlogged = builder.sign(self.authority, hashes.SHA256())
        timestamps = x509.UnrecognizedExtension(SCT_OID, self._timestamps(unlogged))
        logged = builder.add_extension(timestamps, critical=False)
        return Signer(key, logged.sign(self.authority, hashes.SHA256()))

    def _timestamps(self, certificate: x509.Certificate) -> bytes:
        """The list of signed certificate timestamps (RFC 6962, section 3.3)."""
        content = certificate.tbs_certificate_bytes
        moment = struct.pack("!Q", int(_SIGNED.timestamp() * 1000))
        entry = key_id(self.authority) + len(content).to_bytes(3, "big") + content
        signature = sign(self.certificate_log, b"\0\0" + moment + b"\0\1" + entry + b"\0\0")
        timestamp = b"\0" + key_id(self.certificate_log) + moment + b"\0\0" + _SHA256_ECDSA
        timestamp += struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!H", len(timestamp)) + timestamp
        return tlv(0x04, struct.pack("!H", len(listed)) + listed)

    # --- what signers store -----------------------------------------------------------------------

    def statement_bundle(
        self, signer: Signer, payload: bytes, *, minutes_later: int = 0
    ) -> dict[str, Any]:
        """Of an in-toto statement; ``minutes_later`` it came to the log than it should."""
        signed = envelope(signer.key, payload)
        signature = signed["signatures"][0]["sig"]
        entry = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": _hash(json.dumps(signed).encode()),
                "payloadHash": _hash(payload),
                "signatures": [{"signature": signature, "verifier": b64(signer.pem)}],
            },
        }
        return self._bundle(signer, entry, minutes_later, dsseEnvelope=signed)

    def message_bundle(self, signer: Signer, message: bytes) -> dict[str, Any]:
        signature = b64(sign(signer.key, message))
        entry = {
            "apiVersion": "0.0.1",
            "kind": "hashedrekord",
            "spec": {
                "data": {"hash": _hash(message)},
                "signature": {"content": signature, "publicKey": {"content": b64(signer.pem)}},
            },
        }
        digest = {"algorithm": "SHA2_256", "digest": b64(hashlib.sha256(message).digest())}
        content = {"messageDigest": digest, "signature": signature}
        return self._bundle(signer, entry, 0, messageSignature=content)

    def _bundle(
        self, signer: Signer, entry: dict[str, Any], minutes_later: int, **content: Any
    ) -> dict[str, Any]:
        certificate = b64(signer.certificate.public_bytes(serialization.Encoding.DER))
        logged_at = int((_SIGNED + minutes_later * _MINUTE).timestamp())
        return {
            "mediaType": BUNDLE,
            "verificationMaterial": {
                "certificate": {"rawBytes": certificate},
                "tlogEntries": [self._log_entry(entry, logged_at)],
            },
            **content,
        }

    def _log_entry(self, entry: dict[str, Any], logged_at: int) -> dict[str, Any]:
        """The second of two entries in the log."""
        body = rfc8785.dumps(entry)
        first = hashlib.sha256(b"\0the first entry").digest()
        root = hashlib.sha256(b"\1" + first + hashlib.sha256(b"\0" + body).digest()).digest()
        promised: dict[str, Any] = {
            "body": b64(body),
            "integratedTime": logged_at,
            "logID": key_id(self.log).hex(),
            "logIndex": 1,
        }
        note = f"{_ORIGIN}\n2\n{b64(root)}\n"
        note_signature = b64(key_id(self.log)[:4] + sign(self.log, note.encode()))
        return {
            "logIndex": "1",
            "logId": {"keyId": b64(key_id(self.log))},
            "kindVersion": {"kind": entry["kind"], "version": entry["apiVersion"]},
            "integratedTime": str(logged_at),
            "inclusionPromise": {
                "signedEntryTimestamp": b64(sign(self.log, rfc8785.dumps(promised)))
            },
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": b64(root),
                "treeSize": "2",
                "hashes": [b64(first)],
                "checkpoint": {"envelope": f"{note}\n\u2014 log.example.com {note_signature}\n"},
            },
            "canonicalizedBody": b64(body),
        }


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _hash(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _log_instance(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return {
        "baseUrl": "https://log.example.com",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": b64(der(key)),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": "2026-01-01T00:00:00Z"},
        },
        "logId": {"keyId": b64(key_id(key))},
    }
