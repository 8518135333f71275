"""What is in namespaces and registries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pharia_kernel_sdk.publishing.kernel import Kernel
from pharia_kernel_sdk.publishing.registry import Registry

_SIGNATURE_TAG = "sha256-"
"""What tags of signatures and of lists of referrers begin with."""


@dataclass(frozen=True)
class Tag:
    """Of a repository."""

    name: str
    digest: str | None
    """Of the manifest that it leads to; None if it was deleted meanwhile."""


def skills(kernel: Kernel, namespace: str | None) -> list[dict[str, Any]]:
    """With their states; of all namespaces if none is named. Raises ``KernelError``."""
    if namespace:
        return list(kernel.namespace(namespace)["skills"])
    return kernel.skills()


def tags(registry: Registry) -> list[Tag]:
    """Of skills, without those that only carry signatures. Raises ``RegistryError``."""
    names = [name for name in registry.tags() if not name.startswith(_SIGNATURE_TAG)]
    return [Tag(name, registry.digest(name)) for name in names]
