"""Which skills are configured, and what of them can run."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import structs

from pharia_kernel.engine.api import Compiler, EnginePool
from pharia_kernel.errors import (
    KernelError,
    NamespaceMisconfigured,
    ShuttingDown,
    SkillNotFound,
    SkillNotReady,
)
from pharia_kernel.skills.attempts import logger
from pharia_kernel.skills.deployment import DEFAULT_PACE, ComponentSource, Deployment, Pace
from pharia_kernel.skills.failures import fresh, printable
from pharia_kernel.skills.hosted import HostedSkill
from pharia_kernel.skills.metadata import brief
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    SkillDetail,
    SkillInfo,
    SkillKind,
    SkillSettings,
    SkillStatus,
    SkillType,
)
from pharia_kernel.skills.versions import Versions

Source = ComponentSource | HostedSkill
"""What a namespace wants to run under a name: a component, or a skill that the kernel itself
brings.
"""

FIRST_PASS_LIMIT = 15.0
"""Seconds after which a kernel counts as ready although namespaces are still unread."""
WARM_UP_LIMIT = 600.0
"""Seconds after which a kernel counts as ready although skills are still being prepared."""

_DEFAULT_SETTINGS = SkillSettings()


class _Namespace:
    def __init__(self, problem: KernelError | None) -> None:
        self.problem = problem
        """Why it has no skills, if it has none."""
        self.skills: dict[str, Deployment | HostedSkill] = {}

    @property
    def unread(self) -> bool:
        return isinstance(self.problem, SkillNotReady)


class SkillStore:
    """Holds the desired state of all namespaces and moves the real one towards it.

    ``cache_size`` is how many bytes of machine code the engines keep loaded. ``builtin`` skills
    exist without configuration and are not listed. ``first_pass_limit`` and
    ``warm_up_limit`` are in seconds, from when the namespaces became known.
    """

    def __init__(
        self,
        compiler: Compiler,
        pool: EnginePool,
        *,
        cache_size: int,
        compile_jobs: int = 1,
        builtin: Mapping[SkillPath, HostedSkill] | None = None,
        pace: Pace = DEFAULT_PACE,
        first_pass_limit: float = FIRST_PASS_LIMIT,
        warm_up_limit: float = WARM_UP_LIMIT,
    ) -> None:
        self._versions = Versions(compiler, pool, capacity=cache_size, compile_jobs=compile_jobs)
        self._builtin = dict(builtin or {})
        self._pace = pace
        self._namespaces: dict[str, _Namespace] = {}
        self._first_pass_limit = first_pass_limit
        self._warm_up_limit = warm_up_limit
        self._expecting_since: float | None = None
        self._all_read = False
        self._warm = False

    # --- desired state, told by the namespaces ----------------------------------------------------

    def expect(self, namespaces: Iterable[str]) -> None:
        """These namespaces exist; what is in those that are new is not known yet."""
        self._expecting_since = self._expecting_since or time.monotonic()
        for name in namespaces:
            if name not in self._namespaces:
                self._namespaces[name] = _Namespace(_unread(name))

    def configure(self, namespace: str, desired: Mapping[str, Source]) -> None:
        """From now on exactly these skills are in the namespace. Files are looked at again."""
        known = self._namespaces.setdefault(namespace, _Namespace(None))
        known.problem = None
        for name in [name for name in known.skills if name not in desired]:
            self._remove(SkillPath(namespace, name))
        for name, source in desired.items():
            self._put(known, SkillPath(namespace, name), source)

    def invalidate(self, namespace: str, error: NamespaceMisconfigured) -> None:
        """The namespace has no skills until it is configured again, because of ``error``."""
        known = self._namespaces.setdefault(namespace, _Namespace(error))
        known.problem = error
        for name in list(known.skills):
            self._remove(SkillPath(namespace, name), error)

    def remove(self, namespace: str) -> None:
        """The namespace is not configured any more."""
        known = self._namespaces.get(namespace)
        for name in list(known.skills) if known else ():
            self._remove(SkillPath(namespace, name))
        self._namespaces.pop(namespace, None)

    def _put(self, namespace: _Namespace, path: SkillPath, source: Source) -> None:
        current = namespace.skills.get(path.name)
        if isinstance(current, Deployment) and isinstance(source, ComponentSource):
            if current.update(source):
                _log_change("Skill is configured anew", path, source)
        elif current != source:
            _log_change("Skill is configured anew" if current else "Skill is new", path, source)
            self._drop(path, SkillNotReady("The skill is being replaced.", retry_after=1.0))
            namespace.skills[path.name] = (
                Deployment(path, source, self._versions, self._pace)
                if isinstance(source, ComponentSource)
                else source
            )

    def _remove(self, path: SkillPath, reason: KernelError | None = None) -> None:
        logger.info("Skill is removed", extra={"skill": str(path)})
        self._drop(path, reason or _not_found(path))

    def _drop(self, path: SkillPath, reason: KernelError) -> None:
        skill = self._namespaces[path.namespace].skills.pop(path.name, None)
        if isinstance(skill, Deployment):
            skill.close(reason)

    # --- for runs ---------------------------------------------------------------------------------

    def find(self, path: SkillPath) -> Deployment | HostedSkill:
        """The skill. Raises ``NamespaceMisconfigured``, ``SkillNotReady`` or ``SkillNotFound``."""
        skill = self._get(path)
        if skill is not None:
            return skill
        namespace = self._namespaces.get(path.namespace)
        if namespace and namespace.problem:
            raise fresh(namespace.problem)
        raise _not_found(path)

    def settings(self, path: SkillPath) -> SkillSettings:
        """What the skill's namespace says about its runs; nothing for skills that are not there."""
        skill = self._get(path)
        return skill.settings if isinstance(skill, Deployment) else _DEFAULT_SETTINGS

    def _get(self, path: SkillPath) -> Deployment | HostedSkill | None:
        namespace = self._namespaces.get(path.namespace)
        configured = namespace.skills.get(path.name) if namespace else None
        return self._builtin.get(path) or configured

    # --- for operators ----------------------------------------------------------------------------

    def list(self) -> list[SkillInfo]:
        """Configured skills, sorted by namespace and name."""
        return [_info(path, skill) for path, skill in sorted(self._skills(), key=lambda s: s[0])]

    def details(self, namespace: str) -> builtins.list[SkillDetail]:
        """The skills of a namespace in detail, sorted by name; none if it is unknown."""
        known = self._namespaces.get(namespace)
        skills = sorted(known.skills.items()) if known else []
        return [_detail(SkillPath(namespace, name), skill) for name, skill in skills]

    def states(self, namespace: str) -> dict[SkillStatus, int]:
        """How many skills of a namespace are in each state."""
        known = self._namespaces.get(namespace)
        counts = Counter(_status(skill) for skill in known.skills.values()) if known else Counter()
        return {status: counts[status] for status in SkillStatus}

    def cached(self) -> builtins.list[SkillPath]:
        """Components that the engines have loaded."""
        skills = self._skills()
        return sorted(p for p, skill in skills if isinstance(skill, Deployment) and skill.loaded)

    def evict(self, path: SkillPath) -> bool:
        """Unload a component and read it again from its registry; false if it was not loaded."""
        namespace = self._namespaces.get(path.namespace)
        skill = namespace.skills.get(path.name) if namespace else None
        return isinstance(skill, Deployment) and skill.evict()

    def check(self, namespace: str) -> None:
        """Have all components of a namespace looked at again in their registries, and what failed
        tried again.
        """
        known = self._namespaces.get(namespace)
        for skill in known.skills.values() if known else ():
            if isinstance(skill, Deployment):
                skill.retry()

    def readiness(self) -> dict[str, dict[str, Any]]:
        """Ready once every namespace was read and every skill was tried for the first time, or had
        the time for it.

        It stays so: a broken skill, or one that was added later, must not take a kernel out of
        service.
        """
        namespaces = self._namespaces.values()
        unread = sum(namespace.unread for namespace in namespaces)
        states = Counter(_status(skill) for _, skill in self._skills())
        tried = not states[SkillStatus.PREPARING] or self._is_over(self._warm_up_limit)
        self._all_read = self._all_read or not unread or self._is_over(self._first_pass_limit)
        self._warm = self._warm or (self._all_read and tried)
        invalid = sum(isinstance(n.problem, NamespaceMisconfigured) for n in namespaces)
        return {
            "namespaces": {
                "ready": self._all_read,
                "configured": len(namespaces),
                "unread": unread,
                "invalid": invalid,
            },
            "skills": {
                "ready": self._warm,
                "serving": states[SkillStatus.READY],
                "preparing": states[SkillStatus.PREPARING],
                "failed": states[SkillStatus.FAILED],
            },
        }

    def _is_over(self, limit: float) -> bool:
        began = self._expecting_since
        return began is not None and time.monotonic() > began + limit

    def _skills(self) -> Iterator[tuple[SkillPath, Deployment | HostedSkill]]:
        for namespace, known in self._namespaces.items():
            for name, skill in known.skills.items():
                yield SkillPath(namespace, name), skill

    async def close(self) -> None:
        """Stop following registries and cancel what is being prepared."""
        deployments = [skill for _, skill in self._skills() if isinstance(skill, Deployment)]
        for path, _ in list(self._skills()):
            self._drop(path, ShuttingDown("The kernel is shutting down."))
        await asyncio.gather(*(d.task for d in deployments), return_exceptions=True)
        await self._versions.close()


def _status(skill: Deployment | HostedSkill) -> SkillStatus:
    return skill.status if isinstance(skill, Deployment) else SkillStatus.READY


def _info(path: SkillPath, skill: Deployment | HostedSkill) -> SkillInfo:
    if isinstance(skill, Deployment):
        return skill.info()
    return SkillInfo(
        path=path,
        status=SkillStatus.READY,
        type=SkillType.CHAT,
        kind=SkillKind.MESSAGE_STREAM,
        description=brief(skill.metadata().description),
    )


def _detail(path: SkillPath, skill: Deployment | HostedSkill) -> SkillDetail:
    if isinstance(skill, Deployment):
        return skill.detail()
    return SkillDetail(**structs.asdict(_info(path, skill)), history=[])


def _log_change(message: str, path: SkillPath, source: Source) -> None:
    tag = {"tag": source.tag} if isinstance(source, ComponentSource) else {}
    logger.info(message, extra={"skill": str(path), **tag})


def _unread(namespace: str) -> SkillNotReady:
    return SkillNotReady(f"Namespace `{namespace}` has not been read yet.", retry_after=1.0)


def _not_found(path: SkillPath) -> SkillNotFound:
    return SkillNotFound(
        f"There is no skill `{printable(str(path))}`: its name is misspelt, its namespace is "
        "wrong, or it is not configured in the namespace."
    )
