"""Which skills are configured, and what of them can run."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pharia_kernel.engine.api import Compiler, EnginePool
from pharia_kernel.errors import (
    KernelError,
    NamespaceMisconfigured,
    ShuttingDown,
    SkillNotFound,
    SkillNotReady,
)
from pharia_kernel.skills.deployment import (
    DEFAULT_BACKOFF,
    Backoff,
    ComponentSource,
    Deployment,
)
from pharia_kernel.skills.failures import fresh, printable
from pharia_kernel.skills.hosted import HostedSkill
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import SkillInfo, SkillKind, SkillStatus
from pharia_kernel.skills.versions import Versions

logger = logging.getLogger(__name__)

Source = ComponentSource | HostedSkill
"""What a namespace wants to run under a name: a component, or a skill that the kernel itself
brings.
"""


class SkillStore:
    """Holds the desired state of all namespaces and moves the real one towards it.

    ``cache_size`` is how many bytes of machine code the engines keep loaded. ``builtin`` skills
    exist without configuration and are not listed.
    """

    def __init__(
        self,
        compiler: Compiler,
        pool: EnginePool,
        *,
        cache_size: int,
        compile_jobs: int = 1,
        builtin: Mapping[SkillPath, HostedSkill] | None = None,
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self._versions = Versions(compiler, pool, capacity=cache_size, compile_jobs=compile_jobs)
        self._builtin = dict(builtin or {})
        self._backoff = backoff
        self._skills: dict[SkillPath, Deployment | HostedSkill] = {}
        self._namespaces: dict[str, KernelError | None] = {}
        """Every configured namespace, and why it has no skills, if it has none."""
        self._warm = False

    # --- desired state, told by the namespaces ----------------------------------------------------

    def expect(self, namespaces: Iterable[str]) -> None:
        """These namespaces exist, but what is in them is not known yet."""
        for namespace in namespaces:
            self._namespaces[namespace] = SkillNotReady(
                f"Namespace `{namespace}` has not been read yet.", retry_after=1.0
            )

    def configure(self, namespace: str, desired: Mapping[str, Source]) -> None:
        """From now on exactly these skills are in the namespace, each looked at again in its
        registry.
        """
        self._namespaces[namespace] = None
        current = {path.name for path in self._skills if path.namespace == namespace}
        for name in current.difference(desired):
            self._remove(SkillPath(namespace, name))
        for name, source in desired.items():
            self._put(SkillPath(namespace, name), source)

    def invalidate(self, namespace: str, error: NamespaceMisconfigured) -> None:
        """The namespace has no skills until it is configured again, because of ``error``."""
        self._namespaces[namespace] = error
        for path in [path for path in self._skills if path.namespace == namespace]:
            self._remove(path, error)

    def _put(self, path: SkillPath, source: Source) -> None:
        current = self._skills.get(path)
        if isinstance(current, Deployment) and isinstance(source, ComponentSource):
            if current.source == source:
                current.check()
            else:
                logger.info("Changed skill %s", path)
                current.retarget(source)
        elif current != source:
            logger.info("Changed skill %s" if current else "New skill %s", path)
            self._drop(path, SkillNotReady("The skill is being replaced.", retry_after=1.0))
            self._skills[path] = (
                Deployment(path, source, self._versions, self._backoff)
                if isinstance(source, ComponentSource)
                else source
            )

    def _remove(self, path: SkillPath, reason: KernelError | None = None) -> None:
        logger.info("Removed skill %s", path)
        self._drop(path, reason or _not_found(path))

    def _drop(self, path: SkillPath, reason: KernelError) -> None:
        skill = self._skills.pop(path, None)
        if isinstance(skill, Deployment):
            skill.close(reason)

    # --- for runs ---------------------------------------------------------------------------------

    def find(self, path: SkillPath) -> Deployment | HostedSkill:
        """The skill. Raises ``NamespaceMisconfigured``, ``SkillNotReady`` or ``SkillNotFound``."""
        skill = self._builtin.get(path) or self._skills.get(path)
        if skill is not None:
            return skill
        if problem := self._namespaces.get(path.namespace):
            raise fresh(problem)
        raise _not_found(path)

    # --- for operators ----------------------------------------------------------------------------

    def list(self) -> list[SkillInfo]:
        """Configured skills, sorted by namespace and name."""
        return [
            _info(path, skill) for path, skill in sorted(self._skills.items(), key=lambda s: s[0])
        ]

    def cached(self) -> builtins.list[SkillPath]:
        """Components that the engines have loaded."""
        skills = self._skills.items()
        return sorted(p for p, skill in skills if isinstance(skill, Deployment) and skill.loaded)

    def evict(self, path: SkillPath) -> bool:
        """Unload a component and read it again from its registry; false if it was not loaded."""
        skill = self._skills.get(path)
        return isinstance(skill, Deployment) and skill.evict()

    def namespaces(self) -> Mapping[str, KernelError | None]:
        """The configured namespaces, and what is wrong with them."""
        return self._namespaces

    def readiness(self) -> dict[str, dict[str, Any]]:
        """Ready once every namespace was read and every skill was tried for the first time.

        It stays so: a broken skill, or one that was added later, must not take a kernel out of
        service.
        """
        problems = self._namespaces.values()
        unread = sum(isinstance(problem, SkillNotReady) for problem in problems)
        states = [info.status for info in self.list()]
        preparing = states.count(SkillStatus.PREPARING)
        self._warm = self._warm or not (unread or preparing)
        return {
            "namespaces": {
                "ready": self._warm or not unread,
                "configured": len(problems),
                "unread": unread,
                "invalid": sum(isinstance(problem, NamespaceMisconfigured) for problem in problems),
            },
            "skills": {
                "ready": self._warm,
                "serving": states.count(SkillStatus.READY),
                "preparing": preparing,
                "failed": states.count(SkillStatus.FAILED),
            },
        }

    async def close(self) -> None:
        """Stop following registries and cancel what is being prepared."""
        tasks = [skill.task for skill in self._skills.values() if isinstance(skill, Deployment)]
        for path in list(self._skills):
            self._drop(path, ShuttingDown("The kernel is shutting down."))
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._versions.close()


def _info(path: SkillPath, skill: Deployment | HostedSkill) -> SkillInfo:
    if isinstance(skill, Deployment):
        return skill.info()
    return SkillInfo(path=path, status=SkillStatus.READY, kind=SkillKind.MESSAGE_STREAM)


def _not_found(path: SkillPath) -> SkillNotFound:
    return SkillNotFound(
        f"There is no skill `{printable(str(path))}`: its name is misspelt, its namespace is "
        "wrong, or it is not configured in the namespace."
    )
