"""One chat, with whatever parameters the input names; answers with the whole response."""

import json
import traceback

import chat_json
import wit_world
from componentize_py_types import Err
from wit_world.exports.skill_handler import Error_InvalidInput, SkillMetadata
from wit_world.imports import inference


class SkillHandler(wit_world.exports.SkillHandler):
    def run(self, input: bytes) -> bytes:
        try:
            request = chat_json.request(json.loads(input))
        except (ValueError, KeyError, TypeError):
            raise Err(Error_InvalidInput(traceback.format_exc())) from None
        (response,) = inference.chat([request])
        return json.dumps(chat_json.to_json(response)).encode()

    def metadata(self) -> SkillMetadata:
        return SkillMetadata(
            "One chat with every parameter there is.", b'{"type": "object"}', b"{}"
        )
