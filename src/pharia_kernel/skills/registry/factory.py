"""From the settings of registries to registries."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pharia_kernel.config.registries import (
    DEFAULT_DOCKER_CONFIG,
    FileRegistryConfig,
    OciRegistryConfig,
    RegistryConfig,
)
from pharia_kernel.oci.client import OciClient
from pharia_kernel.oci.credentials import (
    Anonymous,
    Credentials,
    CredentialSource,
    DockerConfig,
    Given,
    default_docker_config,
)
from pharia_kernel.skills.registry.base import Registry
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.registry.oci import OciRegistry


class Registries:
    """Gives equal settings the same registry, so that namespaces share connections and answers."""

    def __init__(self) -> None:
        self._files: dict[Path, FileRegistry] = {}
        self._artifacts: dict[OciRegistryConfig, OciRegistry] = {}
        self._clients: dict[OciRegistryConfig, OciClient] = {}

    def get(self, config: RegistryConfig) -> Registry:
        if isinstance(config, FileRegistryConfig):
            return self.directory(config.path)
        if config not in self._artifacts:
            client = self._client(config)
            self._artifacts[config] = OciRegistry(client, config.base_repository or "")
        return self._artifacts[config]

    def directory(self, path: Path) -> FileRegistry:
        """For a watched directory, whose names can be listed."""
        return self._files.setdefault(path, FileRegistry(path))

    async def close(self) -> None:
        """Ends all connections; nothing may be asked any more."""
        await asyncio.gather(*(registry.close() for registry in self._artifacts.values()))
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    def _client(self, config: OciRegistryConfig) -> OciClient:
        """One for all repositories of a registry."""
        key = config.model_copy(update={"base_repository": None})
        if key not in self._clients:
            self._clients[key] = OciClient(
                config.registry,
                _credentials(config),
                plain_http=config.plain_http,
                ca_file=config.ca_file,
                timeout=config.timeout,
            )
        return self._clients[key]


def _credentials(config: OciRegistryConfig) -> CredentialSource:
    if config.user is not None and config.password is not None:
        return Given(Credentials(config.user, config.password.get_secret_value()))
    if config.docker_config is None:
        return Anonymous()
    is_default = config.docker_config == DEFAULT_DOCKER_CONFIG
    file = default_docker_config() if is_default else Path(config.docker_config)
    return DockerConfig(file, config.registry)
