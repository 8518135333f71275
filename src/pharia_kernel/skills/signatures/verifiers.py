"""From the settings of a namespace to what verifies its skills."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pharia_kernel.config.namespaces import NamespaceConfig, WatchNamespace
from pharia_kernel.config.signatures import SignatureIdentity
from pharia_kernel.skills.registry.base import Registry, Verifier
from pharia_kernel.skills.signatures.identities import TrustedIdentity, TrustRoot, UnusableTrustRoot
from pharia_kernel.skills.signatures.keys import TrustedKey, UnusableKey
from pharia_kernel.skills.signatures.verifier import Locating, SignatureVerifier, Trust

log = logging.getLogger("pharia_kernel.signatures")


class Verifiers:
    """Makes verifiers that are equal as long as settings and key files are the same."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        """Problems that have been logged."""

    def get(self, config: NamespaceConfig, registry: Registry) -> Verifier | None:
        """None if the namespace demands no signatures. Reads the key files, which are small.

        A key file or trust root that can't be used accepts nothing, and the skills say so. Raises
        ``TypeError`` for a registry without manifests, which the settings do not allow.
        """
        if isinstance(config, WatchNamespace) or not config.demands_signatures:
            return None
        if not hasattr(registry, "locate"):
            raise TypeError("only artifacts of OCI registries have signatures")
        problems: list[str] = []
        keys = tuple(_read_keys(config.signature_keys, problems))
        root = None
        if config.signature_identities:
            try:
                root = TrustRoot.read(config.signature_trust_root)
            except UnusableTrustRoot as error:
                problems.append(f"`signature-trust-root`: {error}")
        identities = tuple(map(_trusted, config.signature_identities))
        self._tell(problems)
        trust = Trust(keys, identities, root, tuple(problems))
        return SignatureVerifier(cast(Locating, registry), trust)

    def _tell(self, problems: Iterable[str]) -> None:
        for problem in problems:
            if problem not in self._told:
                self._told.add(problem)
                log.error("signatures can't be checked as configured: %s", problem)


def _read_keys(paths: Iterable[Path], problems: list[str]) -> Iterable[TrustedKey]:
    for path in paths:
        try:
            yield TrustedKey.read(path)
        except UnusableKey as error:
            problems.append(f"`signature-keys`: {error}")


def _trusted(identity: SignatureIdentity) -> TrustedIdentity:
    pattern = re.compile(identity.subject_regex) if identity.subject_regex else None
    return TrustedIdentity(identity.issuer, identity.subject, pattern)
