"""The component of a function skill."""

from __future__ import annotations

import json

import wit_world
from wit_world.exports.skill_handler import Error_Internal, Error_InvalidInput, SkillMetadata

from pharia_kernel_sdk.guest.running import Runner, warm_up
from pharia_kernel_sdk.guest.wasm_csi import WasmCsi

runner = Runner(Error_Internal, Error_InvalidInput)


class SkillHandler(wit_world.exports.SkillHandler):  # type: ignore[misc]
    def run(self, input: bytes) -> bytes:
        if runner.declaration is None:
            return runner.load(input)
        return runner.run(
            input, lambda skill, value: runner.dump(skill, skill.function(WasmCsi(), value))
        )

    def metadata(self) -> SkillMetadata:
        assert runner.declaration is not None
        metadata = runner.declaration.metadata()
        return SkillMetadata(
            metadata["description"],
            json.dumps(metadata["input_schema"]).encode(),
            json.dumps(metadata["output_schema"]).encode(),
        )


warm_up()
