"""The model calls of WIT 0.2, each by its name in the input's `function`."""

import json

import wit_world
from componentize_py_types import Err
from wit_world.exports.skill_handler import Error_InvalidInput
from wit_world.imports import csi


class SkillHandler(wit_world.exports.SkillHandler):
    def run(self, input: bytes) -> bytes:
        value = json.loads(input)
        match value.get("function"):
            case "chat":
                result = chat(value)
            case "complete_all":
                requests = [
                    csi.CompletionRequest(value["model"], p, completion_params(value))
                    for p in value["prompts"]
                ]
                result = [completion(c) for c in csi.complete_all(requests)]
            case "complete" | "complete_return_special_tokens" as name:
                call = getattr(csi, name)
                result = completion(call(value["model"], value["prompt"], completion_params(value)))
            case other:
                raise Err(Error_InvalidInput(f"unknown function: {other}"))
        return json.dumps(result).encode()


def chat(value: dict) -> dict:
    messages = [csi.Message(csi.Role[m["role"].upper()], m["content"]) for m in value["messages"]]
    params = csi.ChatParams(value.get("max_tokens"), value.get("temperature"), value.get("top_p"))
    response = csi.chat(value["model"], messages, params)
    message = {"role": response.message.role.name.lower(), "content": response.message.content}
    return {"message": message, "finish_reason": response.finish_reason.name.lower()}


def completion_params(value: dict) -> csi.CompletionParams:
    return csi.CompletionParams(
        value.get("max_tokens"),
        value.get("temperature"),
        value.get("top_k"),
        value.get("top_p"),
        value.get("stop", []),
    )


def completion(value: csi.Completion) -> dict:
    return {"text": value.text, "finish_reason": value.finish_reason.name.lower()}
