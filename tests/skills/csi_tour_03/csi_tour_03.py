"""Makes calls of WIT 0.3 by their names, also those that the published SDK no longer makes; bodies
and answers are those of `/csi/v1`."""

import csi_calls
import wit_world
from csi_calls import CALLS, Call, batch
from wit_json import Json
from wit_world.exports.skill_handler import SkillMetadata
from wit_world.imports import inference


def chat(body: Json) -> Json:
    answers = CALLS["chat"](body)
    for answer in answers:
        answer["message"] |= {"tool_call_id": None, "tool_calls": None}
    return answers


CALLS_03: dict[str, Call] = CALLS | {
    "chat": chat,
    "complete_v2": batch(inference.complete_v2, inference.CompletionRequestV2),
    "explain": batch(inference.explain, inference.ExplanationRequest),
}


class SkillHandler(wit_world.exports.SkillHandler):
    def run(self, input: bytes) -> bytes:
        return csi_calls.answers(CALLS_03, input)

    def metadata(self) -> SkillMetadata:
        return SkillMetadata("Makes the calls that it is asked for.", b'{"type": "array"}', b"{}")
