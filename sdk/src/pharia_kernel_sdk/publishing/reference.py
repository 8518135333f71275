"""Where in which registry a skill is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pharia_kernel_sdk.publishing.errors import PublishError

DEFAULT_TAG = "latest"

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LOOPBACK = re.compile(r"(?:localhost|127\.[0-9.]+|\[::1\])(?::[0-9]+)?")
_VERSION = re.compile(r"v?[0-9][A-Za-z0-9._-]*|[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Reference:
    """``registry/repository:tag``, as the distribution specification of OCI has them."""

    registry: str
    """Host and optional port."""
    repository: str
    tag: str = DEFAULT_TAG

    @property
    def name(self) -> str:
        """Of the skill: kernels take the last part of the repository for it."""
        return self.repository.rpartition("/")[2]

    @property
    def is_loopback(self) -> bool:
        return _LOOPBACK.fullmatch(self.registry) is not None

    @property
    def looks_immutable(self) -> bool:
        """Whether the tag reads like a version or a commit, which others rely on to stay."""
        return _VERSION.fullmatch(self.tag) is not None

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}:{self.tag}"


@dataclass(frozen=True)
class Defaults:
    """What references leave out."""

    registry: str | None = None
    repository: str | None = None
    """The part before the skill's name; may be empty."""


def parse(text: str | None, defaults: Defaults, *, name: str, tag: str | None = None) -> Reference:
    """Of ``REGISTRY/REPO/NAME:TAG``, or only ``NAME:TAG``, or nothing at all; ``name`` and ``tag``
    stand for what is left out. The first part is a registry if it has a dot or a port, or is
    ``localhost``, as for Docker. Raises ``PublishError``.
    """
    path, given_tag = _split(text or "")
    if given_tag and tag and given_tag != tag:
        raise PublishError(f"`{text}` has the tag {given_tag}, but the option says {tag}.")
    first, _, rest = path.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, rest
    else:
        registry = defaults.registry or ""
        repository = "/".join(part for part in (defaults.repository, path or name) if part)
    if not registry:
        raise PublishError(
            "Which registry? Name it (`registry.example.com/team/greet:latest`, or --registry), or "
            "set SKILL_REGISTRY and SKILL_REPOSITORY."
        )
    return Reference(
        _checked("registry", registry, _HOST),
        _checked("repository", repository.strip("/"), _REPOSITORY),
        _checked("tag", given_tag or tag or DEFAULT_TAG, _TAG),
    )


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def _split(text: str) -> tuple[str, str]:
    """A colon after the last slash begins the tag; one before it, a port."""
    if "@" in text:
        raise PublishError(f"`{text}`: name a tag; digests can't be chosen, and have no `@`.")
    folder, slash, last = text.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{folder}{slash}{last}", tag


_RULES = {
    "registry": "a host such as ghcr.io or localhost:5000, without https://",
    "repository": "lower case letters and digits, with single `.`, `_`, `-` or `/` between them",
    "tag": "at most 128 letters, digits, `.`, `_` and `-`",
}


def _checked(what: str, value: str, pattern: re.Pattern[str]) -> str:
    if pattern.fullmatch(value) is None:
        raise PublishError(f"`{value}` can't be a {what}: expected is {_RULES[what]}.")
    return value
