import json

import wit_world
from componentize_py_types import Err
from wit_world.exports.skill_handler import Error_InvalidInput


class SkillHandler(wit_world.exports.SkillHandler):
    def run(self, input: bytes) -> bytes:
        match json.loads(input):
            case {"name": str(name)}:
                return json.dumps(f"Hello {name}").encode()
        raise Err(Error_InvalidInput('expected {"name": "..."}'))
