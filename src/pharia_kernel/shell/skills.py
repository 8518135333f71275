"""Which skills there are and what they are. Running them is in ``runs``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Security
from pydantic import WithJsonSchema
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
from pharia_kernel.skills.types import Caller, SkillInfo

_TypeFilter = Annotated[
    Literal["chat", "programmable"] | None,
    WithJsonSchema({"type": "string", "enum": ["chat", "programmable"]}),
    Query(alias="type", description="Only skills of this type; all if absent."),
]
_Detail = Annotated[
    bool, Query(description="Answer with an object per skill, which says what state it is in.")
]

_GREETING = {
    "description": "Greets a person.",
    "version": "0.3",
    "skill_type": "function",
    "input_schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    },
    "output_schema": {"type": "string"},
}


def router(skills: Skills, token: ApiToken) -> APIRouter:
    routes = APIRouter(tags=["skills"])
    listing: dict[str, Any] = {
        "response_class": Response,
        "responses": {
            200: json_answer(
                "Paths of the skills, sorted by namespace and name; with `detail`, an object each.",
                "SkillListing",
                ["dev/greet", "dev/haiku"],
            ),
            **problem_answers(400, 401, 403),
        },
        "dependencies": [Security(token)],
    }

    @routes.get("/v1/skills", operation_id="skills", **listing)
    @routes.get("/skills", operation_id="skills_unversioned", deprecated=True, **listing)
    async def list_skills(
        asking: Asking, kind: _TypeFilter = None, detail: _Detail = False
    ) -> Response:
        """The configured skills."""
        chosen = [
            info
            for info in skills.list()
            if kind in (None, info.type)
            and asking.may(info.path.namespace, Permission.RUN, Permission.DEPLOY)
        ]
        return json_response([detailed(info) if detail else str(info.path) for info in chosen])

    authorized = Security(token)

    @routes.get(
        "/v1/skills/{namespace}/{name}/metadata",
        operation_id="skill_metadata",
        response_class=Response,
        responses={
            200: json_answer("The skill's metadata.", "SkillMetadata", _GREETING),
            **problem_answers(400, 401, 403, 404, 429, 500, 503, 504),
        },
    )
    async def skill_metadata(
        namespace: NamespaceParameter, name: SkillNameParameter, caller: Caller = authorized
    ) -> Response:
        """What a skill says of itself: description, kind, schemas of its input and output."""
        return json_response(await skills.metadata(SkillPath.parse(namespace, name), caller))

    return routes


def detailed(info: SkillInfo) -> dict[str, Any]:
    """The JSON of a skill with its state."""
    return {**msgspec.structs.asdict(info), "path": str(info.path)}
