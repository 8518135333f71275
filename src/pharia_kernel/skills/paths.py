"""Names of namespaces and skills."""

from __future__ import annotations

import re

from msgspec import Struct

from pharia_kernel.errors import InvalidNamespace

_NAMESPACE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
NAMESPACE_PATTERN = f"^{_NAMESPACE.pattern}$"
NAMESPACE_MAX_LENGTH = 64
SKILL_NAME_MAX_LENGTH = 255


def check_namespace(namespace: str) -> str:
    """The namespace itself; raises ``InvalidNamespace`` with the rule that it breaks."""
    if len(namespace) > NAMESPACE_MAX_LENGTH or not _NAMESPACE.fullmatch(namespace):
        raise InvalidNamespace(
            f"Invalid namespace `{namespace[:100]}`: 1 to {NAMESPACE_MAX_LENGTH} characters "
            "of a-z, 0-9 and single hyphens between them."
        )
    return namespace


class SkillPath(Struct, frozen=True, order=True):
    """Where callers find a skill: ``namespace/name``."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, namespace: str, name: str) -> SkillPath:
        return cls(check_namespace(namespace), name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def is_skill_name(name: str) -> bool:
    """Whether a skill can have this name: one segment of a path that survives JSON, a URL and a log
    line.
    """
    return (
        0 < len(name) <= SKILL_NAME_MAX_LENGTH
        and name not in {".", ".."}
        and name.isprintable()
        and not set(name) & set("/\\")
    )
