"""Wants to chat with a model when it is asked for its metadata."""

from wit_world import exports
from wit_world.exports.skill_handler import SkillMetadata
from wit_world.imports import inference as wit


class SkillHandler(exports.SkillHandler):
    def run(self, input: bytes) -> bytes:
        return b"null"

    def metadata(self) -> SkillMetadata:
        params = wit.ChatParams(*[None] * 6, wit.Logprobs_No(), *[None] * 5)
        message = wit.Message_Other(wit.OtherMessage("user", "What am I?"))
        with wit.ChatStream(wit.ChatRequest("m", [message], params)) as stream:
            return SkillMetadata(str(stream.next()), b"{}", b"{}")
