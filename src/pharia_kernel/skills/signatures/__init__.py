"""Who signed an artifact of an OCI registry, and whether a namespace trusts them.

``Verifiers`` is the way in. A ``SignatureVerifier`` collects what is stored beside the artifact
(``finding``), and holds it against public keys (``keys``) and identities (``identities``).
"""

from pharia_kernel.skills.signatures.verifier import SignatureVerifier
from pharia_kernel.skills.signatures.verifiers import Verifiers

__all__ = ["SignatureVerifier", "Verifiers"]
