"""Identities of signers, as Sigstore's certificate authority found them (keyless signing).

The `sigstore` library checks a bundle without asking anybody: the chain of the certificate, that it
was valid when the signature was made, its entry in the certificate log, and the signature's entry
in the transparency log, all against the trust root.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pharia_kernel.errors import SkillUnavailable
from pharia_kernel.skills.signatures.finding import BundleSignature, Signature
from pharia_kernel.skills.signatures.statements import Unacceptable, check_statement

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.verify import Verifier

log = logging.getLogger("pharia_kernel.signatures")

_ISSUER = "1.3.6.1.4.1.57264.1.8"
_ISSUER_V1 = "1.3.6.1.4.1.57264.1.1"
"""Extensions of Fulcio's certificates: https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
"""
_REFRESH_SECONDS = 86_400
_LOADING = threading.Lock()


class UnusableTrustRoot(Exception):
    """The text says which file, and what is wrong with it."""


@dataclass(frozen=True)
class TrustedIdentity:
    issuer: str
    """URL of the OpenID provider that vouched for the subject."""
    subject: str | None
    """E-mail address or URL, as it stands in the certificate."""
    pattern: re.Pattern[str] | None = None
    """Instead of ``subject``: must match the whole of it."""

    def covers(self, issuer: str | None, subject: str) -> bool:
        if issuer != self.issuer:
            return False
        if self.pattern is not None:
            return self.pattern.fullmatch(subject) is not None
        return subject == self.subject


@dataclass(frozen=True)
class TrustRoot:
    """A Sigstore trust root: certificate authorities, logs and time stampers. Equal if it was read
    from the same file with the same content."""

    path: Path | None
    """Of a `trusted_root.json`; none: that of the public Sigstore, from its TUF repository."""
    content: str | None = None
    """SHA-256 of the file."""

    @classmethod
    def read(cls, path: Path | None) -> TrustRoot:
        """Raises ``UnusableTrustRoot``."""
        if path is None:
            return cls(None)
        try:
            return cls(path, hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as error:
            raise UnusableTrustRoot(f"`{path}` can't be read: {error.strerror}") from None

    def verifier(self) -> Verifier:
        """Takes its time, so call it in a thread.

        Raises ``UnusableTrustRoot``, or ``SkillUnavailable`` if the public trust root can't be had
        at the moment.
        """
        with _LOADING:
            if self.path is None:
                return _public(int(time.time() // _REFRESH_SECONDS))
            return _from_file(self.path, self.content)


@lru_cache(maxsize=32)
def _from_file(path: Path, content: str | None) -> Verifier:
    from sigstore.errors import Error
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier

    try:
        return Verifier(trusted_root=TrustedRoot.from_file(str(path)))
    except (OSError, ValueError, Error) as error:
        log.error("`signature-trust-root`: %s: %s", path, error)
        raise UnusableTrustRoot(f"`{path}` is not a Sigstore trust root") from None


@lru_cache(maxsize=1)
def _public(day: int) -> Verifier:
    from sigstore.errors import Error
    from sigstore.verify import Verifier

    try:
        return Verifier.production()
    except (OSError, Error) as error:
        log.error("the public Sigstore trust root can't be had: %s", error)
        raise SkillUnavailable(
            "The trust root of the public Sigstore can't be fetched from the Internet; "
            "`signature-trust-root` names a file instead."
        ) from None


def signer(
    identities: tuple[TrustedIdentity, ...], root: TrustRoot, found: Signature, digest: str
) -> str:
    """Who signed the manifest with this digest: ``subject (issuer)``. Takes milliseconds of CPU.

    Raises ``Unacceptable``, and what ``TrustRoot.verifier`` raises.
    """
    if not isinstance(found, BundleSignature):
        raise Unacceptable(
            "is in cosign's older format, which does not prove when an identity signed; sign with "
            "cosign 3, or with `--new-bundle-format`"
        )
    verifier = root.verifier()
    policy = _Trusted(identities)
    try:
        kind, payload = _verified(verifier, policy, found)
    except Unacceptable:
        raise
    except Exception as error:
        # The library was written to end a command: with what a hostile bundle holds it raises
        # whatever comes. Nothing of that is a good signature.
        log.info("signature of %s does not count", digest, exc_info=error)
        raise Unacceptable(f"does not verify: {error}") from None
    if kind is not None:
        check_statement(kind, payload, digest)
    return policy.signer


class _Trusted:
    """A ``VerificationPolicy`` of the library: the certificate is one of these identities'."""

    def __init__(self, identities: tuple[TrustedIdentity, ...]) -> None:
        self._identities = identities
        self.signer = ""

    def verify(self, certificate: Certificate) -> None:
        issuer, subjects = _issuer(certificate), _subjects(certificate)
        for subject in subjects:
            if any(identity.covers(issuer, subject) for identity in self._identities):
                self.signer = f"{subject} ({issuer})"
                return
        names = ", ".join(subjects) or "nobody"
        raise Unacceptable(
            f"was made by {names} of the issuer {issuer}, whom `signature-identities` does not have"
        )


def _issuer(certificate: Certificate) -> str | None:
    from cryptography.hazmat import asn1

    issuers: dict[str, bytes] = {
        extension.oid.dotted_string: extension.value.public_bytes()
        for extension in certificate.extensions
        if extension.oid.dotted_string in (_ISSUER, _ISSUER_V1)
    }
    if _ISSUER in issuers:
        return str(asn1.decode_der(str, issuers[_ISSUER]))
    return issuers[_ISSUER_V1].decode() if _ISSUER_V1 in issuers else None


def _subjects(certificate: Certificate) -> list[str]:
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    emails = names.get_values_for_type(x509.RFC822Name)
    return [*emails, *names.get_values_for_type(x509.UniformResourceIdentifier)]


def _verified(
    verifier: Verifier, policy: _Trusted, found: BundleSignature
) -> tuple[str | None, bytes]:
    """Type and payload of the signed statement; no type if the manifest itself was signed."""
    from sigstore.models import Bundle

    if found.bundle.made_with_key:
        raise Unacceptable("was made with a key, and not by an identity")
    bundle = Bundle.from_json(found.text)
    if found.message is None:
        return verifier.verify_dsse(bundle, policy)
    verifier.verify_artifact(found.message, bundle, policy)
    return None, found.message
