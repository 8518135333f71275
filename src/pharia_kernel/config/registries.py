"""Where the components of a namespace are: in a folder, or in an OCI registry."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Tag,
    model_validator,
)

from pharia_kernel.config.problems import HIDDEN
from pharia_kernel.config.values import (
    Duration,
    PathValue,
    Secret,
    Table,
    Text,
    expected,
    kebab,
    parse_address,
    refused,
)
from pharia_kernel.oci.types import is_repository

DEFAULT_DOCKER_CONFIG = "default"
"""Stands for the file that ``docker login`` writes."""


class FileRegistryConfig(Table):
    """Components are files in the folder ``path``."""

    path: PathValue


def _parse_registry(value: Any) -> str:
    if not isinstance(value, str):
        raise expected("a host such as ghcr.io or localhost:5000")
    # What is refused here might hold a password, so it is not repeated.
    if "@" in value:
        raise refused("must not hold credentials: use `registry-user` and `registry-password`")
    if "://" in value:
        raise refused("must be a host without a scheme; for http set `registry-plain-http = true`")
    if "/" in value:
        raise refused("must be a host without a path; use `base-repository` for that")
    for address in (value, f"{value}:443"):
        try:
            parse_address(address)
        except ValueError:
            continue
        return str(value)
    raise expected("a host such as ghcr.io or localhost:5000")


def _check_base_repository(value: str) -> str:
    value = value.strip("/")
    if value and not is_repository(value):
        raise expected(
            "a path such as team/skills: lower case letters, digits, and single `.`, `_` or `-` "
            "between them"
        )
    return value


def _parse_docker_config(value: Any) -> Any:
    return str(value) if value == DEFAULT_DOCKER_CONFIG else value


Host = Annotated[str, BeforeValidator(_parse_registry)]
BaseRepository = Annotated[Text, AfterValidator(_check_base_repository)]
DockerConfigFile = Annotated[Literal["default"] | PathValue, BeforeValidator(_parse_docker_config)]


def _oci_key(field: str) -> str:
    beside = {"registry", "base_repository"}
    return kebab(field if field in beside else f"registry-{field}")


class OciRegistryConfig(Table):
    """Components are artifacts in an OCI registry. Without credentials it is asked anonymously."""

    model_config = ConfigDict(alias_generator=_oci_key)

    registry: Host
    """Host and optional port."""
    user: Text | None = None
    password: Secret | None = None
    base_repository: BaseRepository | None = None
    docker_config: DockerConfigFile | None = None
    """File with credentials as ``docker login`` writes it, or ``default`` for its usual place."""
    ca_file: PathValue | None = None
    """PEM file of certificates that are trusted besides the system's."""
    plain_http: bool = False
    timeout: Duration = 30.0
    """For small requests, and for silence in the middle of a download."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        pair = "`registry-user` and `registry-password` belong together"
        if self.user is None and self.password is not None:
            raise refused(f"is missing: {pair}", "registry-user")
        if self.user is not None and self.password is None:
            raise refused(f"is missing: {pair}", "registry-password")
        if self.user is not None and ":" in self.user:
            raise refused("must not hold a colon: HTTP can't send it", "registry-user")
        if self.user is not None and self.docker_config is not None:
            raise refused("excludes `registry-user`: keep one", "registry-docker-config")
        if self.plain_http and self.ca_file is not None:
            raise refused("has no use beside `registry-plain-http`", "registry-ca-file")
        return self


OCI_KEYS = tuple(str(field.alias) for field in OciRegistryConfig.model_fields.values())
REGISTRY_KEYS = ("path", *OCI_KEYS)


def _registry_form(value: Any) -> str | None:
    if isinstance(value, dict):
        return f"{HIDDEN}file" if "path" in value else f"{HIDDEN}oci"
    return _REGISTRY_OF_CLASS.get(type(value))


_REGISTRY_OF_CLASS: dict[type, str] = {
    FileRegistryConfig: f"{HIDDEN}file",
    OciRegistryConfig: f"{HIDDEN}oci",
}

RegistryConfig = Annotated[
    Annotated[FileRegistryConfig, Tag(f"{HIDDEN}file")]
    | Annotated[OciRegistryConfig, Tag(f"{HIDDEN}oci")],
    Discriminator(_registry_form),
]
