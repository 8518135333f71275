"""What the operator can set: environment, ``.env`` and ``config.toml`` become ``Settings``."""

from pharia_kernel.config.loading import load
from pharia_kernel.config.namespaces import (
    ChatSkillEntry,
    InPlaceNamespace,
    NamespaceConfig,
    SkillEntry,
    TeamOwnedNamespace,
    WatchNamespace,
)
from pharia_kernel.config.problems import ConfigError, Problem
from pharia_kernel.config.registries import FileRegistryConfig, OciRegistryConfig
from pharia_kernel.config.settings import OpenAiInference, Settings
from pharia_kernel.config.values import Address, LogFilter

__all__ = [
    "Address",
    "ChatSkillEntry",
    "ConfigError",
    "FileRegistryConfig",
    "InPlaceNamespace",
    "LogFilter",
    "NamespaceConfig",
    "OciRegistryConfig",
    "OpenAiInference",
    "Problem",
    "Settings",
    "SkillEntry",
    "TeamOwnedNamespace",
    "WatchNamespace",
    "load",
]
