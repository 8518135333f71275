"""What the namespaces need from the rest of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pharia_kernel.config.namespaces import (
    InPlaceNamespace,
    TeamOwnedNamespace,
    WatchNamespace,
)
from pharia_kernel.config.registries import RegistryConfig
from pharia_kernel.config.tools import McpServer
from pharia_kernel.skills.registry.base import Registry, Verifier

Config = WatchNamespace | InPlaceNamespace | TeamOwnedNamespace


class Registries(Protocol):
    def get(self, config: RegistryConfig) -> Registry:
        """The same registry for the same configuration. Raises ``KernelError`` or ``OSError`` if it
        can't be used.
        """
        ...


class Verifiers(Protocol):
    def get(self, config: Config, registry: Registry) -> Verifier | None:
        """Equal ones for the same configuration; none if nothing is to be verified. Raises
        ``KernelError`` or ``OSError`` if keys can't be read.
        """
        ...


class Tools(Protocol):
    def configure(
        self, namespace: str, mcp_servers: Sequence[McpServer], native_tools: Sequence[str]
    ) -> None:
        """From now on the namespace has these and no others."""
        ...

    def remove(self, namespace: str) -> None:
        """The namespace is not configured any more."""
        ...
