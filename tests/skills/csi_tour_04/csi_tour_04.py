"""Makes calls of WIT 0.4 by their names; bodies and answers are those of `/csi/v2`."""

import csi_calls
import wit_world
from chat_messages import CHAT_CALLS
from wit_world.exports.skill_handler import SkillMetadata


class SkillHandler(wit_world.exports.SkillHandler):
    def run(self, input: bytes) -> bytes:
        return csi_calls.answers(CHAT_CALLS, input)

    def metadata(self) -> SkillMetadata:
        return SkillMetadata("Makes the calls that it is asked for.", b'{"type": "array"}', b"{}")
