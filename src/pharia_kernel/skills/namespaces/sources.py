"""From the entries of a description to what the store can follow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pharia_kernel.config.namespaces import (
    ChatSkillEntry,
    SkillEntry,
    WatchNamespace,
)
from pharia_kernel.config.registries import FileRegistryConfig, RegistryConfig
from pharia_kernel.errors import KernelError, NamespaceMisconfigured
from pharia_kernel.skills.chat import ChatSkill
from pharia_kernel.skills.deployment import ComponentSource
from pharia_kernel.skills.namespaces.interfaces import Config, Registries, Verifiers
from pharia_kernel.skills.recollection import Recollection
from pharia_kernel.skills.registry.base import Registry, Verifier
from pharia_kernel.skills.store import Source
from pharia_kernel.skills.types import SkillSettings


class Sources:
    """Of one namespace: its registry, and who verifies what comes from there."""

    def __init__(
        self,
        namespace: str,
        config: Config,
        registries: Registries,
        verifiers: Verifiers,
        state_directory: Path | None,
    ) -> None:
        """``state_directory`` keeps what served last; none: nothing is kept."""
        self._namespace = namespace
        self._directory = state_directory
        self._config = config
        self._registries = registries
        self._verifiers = verifiers

    def of(self, entries: Iterable[SkillEntry | ChatSkillEntry]) -> dict[str, Source]:
        """By name. Raises ``NamespaceMisconfigured`` if the registry or the verifier can't be
        used; that may be better the next time.
        """
        registry, verifier = self._parts()
        return {entry.name: self._source(entry, registry, verifier) for entry in entries}

    def _source(
        self, entry: SkillEntry | ChatSkillEntry, registry: Registry, verifier: Verifier | None
    ) -> Source:
        if isinstance(entry, ChatSkillEntry):
            return ChatSkill(entry.version, entry.model, entry.system_prompt)
        # Whether a signature is still good can only be told by the registry.
        recollection = None if verifier else self._recollection(entry)
        return ComponentSource(
            registry, entry.name, entry.tag, _settings(entry), verifier, recollection
        )

    def _recollection(self, entry: SkillEntry) -> Recollection | None:
        config = _registry_config(self._config)
        if self._directory is None or isinstance(config, FileRegistryConfig):
            return None
        place = f"{config.registry}/{config.base_repository or ''}/{entry.name}:{entry.tag}"
        return Recollection(self._directory, self._namespace, entry.name, place)

    def _parts(self) -> tuple[Registry, Verifier | None]:
        try:
            registry = self._registries.get(_registry_config(self._config))
            return registry, self._verifiers.get(self._config, registry)
        except KernelError as error:
            reason = error.detail
        except OSError as error:
            reason = f"`{error.filename}`: {error.strerror}"
        raise NamespaceMisconfigured(
            f"Namespace `{self._namespace}` is misconfigured: {reason}", causes=[reason]
        )


def _registry_config(config: Config) -> RegistryConfig:
    if isinstance(config, WatchNamespace):
        return FileRegistryConfig(path=config.directory)
    return config.registry


def _settings(entry: SkillEntry) -> SkillSettings:
    tools = entry.allowed_tools
    return SkillSettings(
        run_timeout=entry.run_timeout,
        memory_limit=entry.memory_limit,
        max_runs=entry.max_runs,
        allowed_tools=None if tools is None else tuple(tools),
    )
