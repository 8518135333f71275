"""What should run: follows the descriptions of namespaces and tells the store and the tools.

``namespaces`` has all of them, ``following`` one; ``forms`` get a description from where it is,
``document`` reads one that a team wrote.
"""

from pharia_kernel.skills.namespaces.interfaces import Config, Registries, Tools, Verifiers
from pharia_kernel.skills.namespaces.namespaces import Namespaces

__all__ = ["Config", "Namespaces", "Registries", "Tools", "Verifiers"]
