"""Makes calls of WIT 0.2 by their names; bodies and answers are those of `POST /csi`."""

import json
from typing import Any, get_type_hints

from wit_json import from_json, to_json
from wit_world import exports
from wit_world.imports import csi

Json = Any


def call(name: str, body: Json) -> Json:
    if name == "complete" and body["params"].get("return_special_tokens"):
        name = "complete_return_special_tokens"
    function = getattr(csi, name)
    hints = get_type_hints(function)
    hints.pop("return")
    arguments = {key: from_json(type_, body.get(key)) for key, type_ in hints.items()}
    return to_json(function(**arguments))


class SkillHandler(exports.SkillHandler):
    def run(self, input: bytes) -> bytes:
        return json.dumps([call(name, body) for name, body in json.loads(input)]).encode()
