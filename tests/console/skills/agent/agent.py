"""Adds two numbers: thinks, calls tools of which one fails, asks a model, and answers."""

import json

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import inference, tool
from wit_world.imports.streaming_output import (
    BeginAttributes,
    MessageItem_MessageAppend,
    MessageItem_MessageBegin,
    MessageItem_MessageEnd,
    MessageItem_Reasoning,
    StreamOutput,
)


class MessageStream(exports.MessageStream):
    def run(self, input: bytes, output: StreamOutput) -> None:
        request = json.loads(input)
        with output:
            output.write(MessageItem_MessageBegin(BeginAttributes("assistant")))
            output.write(MessageItem_Reasoning("Two numbers have to be added. There is a tool."))
            total = call("add", {"a": request["a"], "b": request["b"]})
            call("saboteur", {})
            print(f"the sum is {total}")
            tokens = ask(request["model"])
            for word in f"{request['a']} + {request['b']} is {total}.".split(" "):
                output.write(MessageItem_MessageAppend(f"{word} "))
            output.write(MessageItem_MessageEnd(json.dumps({"tokens": tokens}).encode()))


def call(name: str, arguments: dict[str, object]) -> str:
    named = [tool.Argument(key, json.dumps(value).encode()) for key, value in arguments.items()]
    (result,) = tool.invoke_tool([tool.InvokeRequest(name, named)])
    parts = result.value if isinstance(result, Ok) else []
    return "".join(part.value for part in parts)


def ask(model: str) -> int:
    params = inference.ChatParams(8, *[None] * 5, inference.Logprobs_No(), *[None] * 5)
    message = inference.Message_Other(inference.OtherMessage("user", "Is that right?"))
    (answer,) = inference.chat([inference.ChatRequest(model, [message], params)])
    return answer.usage.completion
