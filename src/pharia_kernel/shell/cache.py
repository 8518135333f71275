"""Skills that can run at once, and how to have one read again."""

from __future__ import annotations

from fastapi import APIRouter, Security
from starlette.responses import Response

from pharia_kernel.shell.auth import ApiToken, Asking, Permission
from pharia_kernel.shell.openapi import (
    NamespaceParameter,
    SkillNameParameter,
    json_answer,
    json_response,
    problem_answers,
)
from pharia_kernel.skills.api import Skills
from pharia_kernel.skills.paths import SkillPath

_REMOVED = "Skill removed from cache"
_ABSENT = "Skill was not present in cache"


def router(skills: Skills, token: ApiToken) -> APIRouter:
    routes = APIRouter(tags=["operations"], dependencies=[Security(token)])

    @routes.get(
        "/cached_skills",
        operation_id="cached_skills",
        response_class=Response,
        responses={
            200: json_answer("Paths of the skills.", "SkillPathList", ["dev/greet"]),
            **problem_answers(401, 403),
        },
    )
    async def cached_skills(asking: Asking) -> Response:
        """The skills that can run at once, without being loaded first."""
        return json_response(
            [
                str(path)
                for path in skills.cached()
                if asking.may(path.namespace, Permission.RUN, Permission.DEPLOY)
            ]
        )

    @routes.delete(
        "/cached_skills/{namespace}/{name}",
        operation_id="drop_cached_skill",
        response_class=Response,
        responses={
            200: json_answer("What was done.", "CacheAnswer", _REMOVED),
            **problem_answers(400, 401, 403),
        },
    )
    async def drop_cached_skill(
        namespace: NamespaceParameter, name: SkillNameParameter
    ) -> Response:
        """Drop a skill from the cache and have it read from its registry again."""
        removed = await skills.evict(SkillPath.parse(namespace, name))
        return json_response(_REMOVED if removed else _ABSENT)

    return routes
