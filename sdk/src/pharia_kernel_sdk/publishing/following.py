"""Following a new version until the kernel serves it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pharia_kernel_sdk.publishing.errors import KernelError, PublishError
from pharia_kernel_sdk.publishing.kernel import Kernel
from pharia_kernel_sdk.publishing.progress import Progress, silent
from pharia_kernel_sdk.publishing.reference import Reference

_PAUSE = 0.2
"""Seconds between two questions."""
_SETTLED = 15
"""Unchanged answers after which a failure of an earlier attempt is taken for final."""
_SERVER_ERRORS = 500
_WORDS = {
    "found": "found",
    "pulled": "pulled",
    "verified": "signature verified",
    "compiled": "compiled",
    "ready": "loaded",
}


class DeploymentError(PublishError):
    """The kernel does not serve the version; the message says why."""


@dataclass(frozen=True)
class Serving:
    """A skill, once the kernel serves what it should."""

    path: str
    digest: str
    """Of the manifest."""
    seconds: float
    """Since the kernel was told."""
    signed_by: str | None


@dataclass(frozen=True)
class Wanted:
    """What shall be served, and where."""

    namespace: str
    name: str
    tag: str
    digest: str
    """Of the manifest."""

    @property
    def path(self) -> str:
        return f"{self.namespace}/{self.name}"


def choose_namespace(kernel: Kernel, reference: Reference) -> str:
    """The only namespace that has a skill of this name and tag. Raises ``PublishError`` if there is
    none, or more than one."""
    skills = [s for s in kernel.skills() if s["path"].partition("/")[2] == reference.name]
    same_tag = [s for s in skills if s["tag"] == reference.tag]
    found = sorted({s["path"].partition("/")[0] for s in same_tag or skills})
    if len(found) == 1:
        return str(found[0])
    if not found:
        raise PublishError(
            f"No namespace of the kernel has a skill `{reference.name}`: name the namespace that "
            "shall have it with --namespace."
        )
    raise PublishError(
        f"The namespaces {', '.join(found)} have a skill `{reference.name}`: choose one with "
        "--namespace."
    )


def deploy(kernel: Kernel, wanted: Wanted, deadline: float, progress: Progress = silent) -> Serving:
    """Tell the kernel to look, and wait until it serves the manifest. ``deadline`` in seconds.

    Raises ``DeploymentError`` if it can't or does not, and ``KernelError``.
    """
    began = time.monotonic()
    observer = _Observer(wanted, kernel.namespace(wanted.namespace))
    kernel.refresh(wanted.namespace)
    told = ""
    while True:
        namespace = _namespace(kernel, wanted)
        skill = observer.observe(namespace) if namespace else None
        if skill:
            signer = skill["signed_by"]
            return Serving(wanted.path, wanted.digest, time.monotonic() - began, signer)
        state = observer.state if namespace else "the kernel does not answer"
        if state != told:
            told = state
            progress(f"{wanted.path}: {state}")
        if time.monotonic() - began > deadline:
            raise DeploymentError(
                f"{wanted.path} is not served after {deadline:g} s ({state}). The kernel goes on "
                "trying, and serves what it served before."
            )
        time.sleep(_PAUSE)


class _Observer:
    """Makes sense of what the kernel tells of a namespace, time after time."""

    def __init__(self, wanted: Wanted, before: dict[str, Any]) -> None:
        """``before`` is what it told before it was asked to look."""
        self.state = "waiting for the kernel to look"
        self._wanted = wanted
        self._read_before = before["last_attempt"]
        skill = _skill(before, wanted)
        self._checked_before = skill["last_check"] if skill else None
        self._record_before = _record(skill, wanted)
        self._stale = 0

    def observe(self, namespace: dict[str, Any]) -> dict[str, Any] | None:
        """The skill, if it serves what is wanted. Raises ``DeploymentError`` if it never will."""
        skill = _skill(namespace, self._wanted)
        if skill is None or skill["tag"] != self._wanted.tag:
            if namespace["last_attempt"] != self._read_before:
                raise DeploymentError(_not_described(namespace, skill, self._wanted))
            return None  # what is in effect may be old
        if skill["manifest_digest"] == self._wanted.digest:
            return skill
        record = _record(skill, self._wanted)
        if record is None:
            self.state = (
                f"not found yet. {_problem(skill['error'])}" if skill["error"] else self.state
            )
        elif not self._is_stale(skill, record):
            self.state = _state(record, self._wanted)
        return None

    def _is_stale(self, skill: dict[str, Any], record: dict[str, Any]) -> bool:
        """Whether this is about an earlier attempt: the same artifact may have failed before it was
        signed. If the kernel has looked since, and stays with it, it holds."""
        if record != self._record_before:
            return False
        if skill["last_check"] != self._checked_before:
            self._stale += 1
        return self._stale < _SETTLED


def _namespace(kernel: Kernel, wanted: Wanted) -> dict[str, Any] | None:
    """None if the kernel can't tell at the moment: it may be restarting."""
    try:
        return kernel.namespace(wanted.namespace)
    except KernelError as error:
        if error.status is None or error.status >= _SERVER_ERRORS:
            return None
        raise


def _skill(namespace: dict[str, Any], wanted: Wanted) -> dict[str, Any] | None:
    return next((s for s in namespace["skills"] if s["path"] == wanted.path), None)


def _record(skill: dict[str, Any] | None, wanted: Wanted) -> dict[str, Any] | None:
    """The newest entry of the history about the wanted version."""
    history = skill["history"] if skill else []
    return next((r for r in history if r["manifest_digest"] == wanted.digest), None)


def _not_described(namespace: dict[str, Any], skill: dict[str, Any] | None, wanted: Wanted) -> str:
    """Why the kernel will not even look for the artifact."""
    if namespace["error"]:
        return (
            f"The description of the namespace {wanted.namespace} is not usable. "
            f"{_problem(namespace['error'])}"
        )
    if skill is None:
        return (
            f"The namespace {wanted.namespace} has no skill `{wanted.name}`. Add it to its "
            f'description ({namespace["source"]}): [[skills]] name = "{wanted.name}", '
            f'tag = "{wanted.tag}".'
        )
    return (
        f"{wanted.path} takes the tag {skill['tag']}, but {wanted.tag} was published. Change the "
        f"namespace's description ({namespace['source']}), or publish with --tag {skill['tag']}."
    )


def _state(record: dict[str, Any], wanted: Wanted) -> str:
    """Raises ``DeploymentError`` if it will not get any further."""
    error = record["error"]
    if record["state"] == "discarded":
        raise DeploymentError(f"{wanted.path}: something newer came before this could be served.")
    if record["state"] == "failed" and not error["retryable"]:
        raise DeploymentError(f"{wanted.path} can't be served. {_problem(error)}")
    if error:
        return f"failed, will be tried again. {_problem(error)}"
    return _WORDS.get(record["state"], str(record["state"]))


def _problem(error: dict[str, Any]) -> str:
    fixable = error.get("fixable_by")
    whose = f" (to be fixed by: {str(fixable).replace('_', ' ')})" if fixable else ""
    return f"{error.get('title')}: {error.get('detail')}{whose}"


def served(kernel: Kernel, namespace: str, name: str) -> list[str]:
    """Digests of the manifests that the skill has served, newest first."""
    skill = _skill(kernel.namespace(namespace), Wanted(namespace, name, "", ""))
    history = skill["history"] if skill else []
    return [
        str(record["manifest_digest"])
        for record in history
        if record["manifest_digest"] and record["state"] in ("serving", "retired")
    ]
