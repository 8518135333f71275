"""Decides whether an artifact is signed by somebody whom a namespace trusts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from pharia_kernel.errors import SignatureRejected, SkillUnavailable
from pharia_kernel.oci.client import OciClient
from pharia_kernel.skills.failures import printable
from pharia_kernel.skills.registry.base import Snapshot
from pharia_kernel.skills.signatures import identities, keys
from pharia_kernel.skills.signatures.finding import Artifact, Signature
from pharia_kernel.skills.signatures.identities import TrustedIdentity, TrustRoot, UnusableTrustRoot
from pharia_kernel.skills.signatures.keys import TrustedKey
from pharia_kernel.skills.signatures.statements import Unacceptable

_MAX_REASONS = 5
_LONGEST_REASON = 400


class Locating(Protocol):
    """A registry that knows where the artifact of a skill is."""

    def locate(self, name: str) -> tuple[OciClient, str]:
        """The client, and the repository of the skill."""
        ...


@dataclass(frozen=True)
class Trust:
    """Whom a namespace trusts; one signature by any of them suffices."""

    keys: tuple[TrustedKey, ...] = ()
    identities: tuple[TrustedIdentity, ...] = ()
    root: TrustRoot | None = None
    """For the identities."""
    problems: tuple[str, ...] = ()
    """Settings that can't be used. They are told when nothing else accepts a signature."""


@dataclass
class _Reasons:
    """Why no signature has been accepted so far."""

    bad: list[str] = field(default_factory=list)
    trouble: SkillUnavailable | None = None
    """Something could not be asked, so a good signature may have been missed."""


@dataclass(frozen=True)
class SignatureVerifier:
    """A ``Verifier`` of the signatures that lie beside artifacts in their registry.

    It remembers nothing: each call looks at what the registry has then. Equal if registry and trust
    are equal, the content of the key files included.
    """

    registry: Locating
    trust: Trust

    async def verify(self, name: str, snapshot: Snapshot) -> str:
        """The file name of the key, or ``subject (issuer)``, that signed the manifest.

        Raises ``SignatureRejected`` with the reasons, or ``SkillUnavailable`` if no good signature
        was found and the registry, or the source of the trust root, could not be asked.
        """
        digest = snapshot.manifest_digest
        if digest is None:
            raise SignatureRejected(f"`{printable(name)}` has no manifest that could be signed.")
        client, repository = self.registry.locate(name)
        artifact = Artifact(client, repository, digest)
        reasons = _Reasons()
        for place in (artifact.bundles(), artifact.simple_signatures()):
            signer = await self._first_accepted(place, digest, reasons)
            if signer is not None:
                return signer
        if reasons.trouble is not None:
            raise reasons.trouble
        raise _rejected(name, digest, [*self.trust.problems, *reasons.bad])

    async def _first_accepted(
        self, place: AsyncIterator[Signature | Unacceptable], digest: str, reasons: _Reasons
    ) -> str | None:
        try:
            async for found in place:
                if isinstance(found, Unacceptable):
                    reasons.bad.append(f"a signature {found}")
                    continue
                # Off the event loop: keys take a tenth of a millisecond each, identities some.
                signer = await asyncio.to_thread(self._signer, found, digest, reasons)
                if signer is not None:
                    return signer
        except SkillUnavailable as error:
            reasons.trouble = error
        return None

    def _signer(self, found: Signature, digest: str, reasons: _Reasons) -> str | None:
        """Who made the signature; none, and the reason, if it does not count."""
        trust = self.trust
        if trust.keys:
            try:
                return keys.signer(trust.keys, found, digest)
            except Unacceptable as error:
                reasons.bad.append(f"a signature {error}")
        if trust.identities and trust.root:
            try:
                return identities.signer(trust.identities, trust.root, found, digest)
            except Unacceptable as error:
                reasons.bad.append(f"a signature {error}")
            except UnusableTrustRoot as error:
                reasons.bad.append(f"`signature-trust-root`: {error}")
            except SkillUnavailable as error:
                reasons.trouble = error
        return None


def _rejected(name: str, digest: str, reasons: list[str]) -> SignatureRejected:
    different = list(dict.fromkeys(printable(reason, _LONGEST_REASON) for reason in reasons))
    shown = different[:_MAX_REASONS] or ["there is no signature"]
    if len(different) > len(shown):
        shown.append(f"and {len(different) - len(shown)} more reasons")
    return SignatureRejected(
        f"The namespace demands a signature, and `{printable(name)}` ({digest}) has none that it "
        f"trusts: {'; '.join(shown)}."
    )
