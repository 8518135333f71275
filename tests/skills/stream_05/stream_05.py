"""Forwards a chat stream with its reasoning.

The end says why the model stopped, what it used, and which tools it wants called.
"""

import json
import traceback

import chat_json
import wit_world
from componentize_py_types import Err
from wit_world.exports.message_stream import Error_InvalidInput
from wit_world.imports import inference
from wit_world.imports.streaming_output import (
    BeginAttributes,
    MessageItem_MessageAppend,
    MessageItem_MessageBegin,
    MessageItem_MessageEnd,
    MessageItem_Reasoning,
    StreamOutput,
)


class MessageStream(wit_world.exports.MessageStream):
    def run(self, input: bytes, output: StreamOutput) -> None:
        try:
            request = chat_json.request(json.loads(input))
        except (ValueError, KeyError, TypeError):
            raise Err(Error_InvalidInput(traceback.format_exc())) from None
        payload = {"finish_reason": None, "usage": None, "tool_calls": []}
        with output, inference.ChatStream(request) as stream:
            while (event := stream.next()) is not None:
                forward(event, output, payload)
            output.write(MessageItem_MessageEnd(json.dumps(payload).encode()))


def forward(event: inference.ChatEvent, output: StreamOutput, payload: dict) -> None:
    match event:
        case inference.ChatEvent_MessageBegin(role):
            output.write(MessageItem_MessageBegin(BeginAttributes(role)))
        case inference.ChatEvent_Reasoning(text):
            output.write(MessageItem_Reasoning(text))
        case inference.ChatEvent_MessageAppend(append):
            output.write(MessageItem_MessageAppend(append.content))
        case inference.ChatEvent_ToolCall(chunks):
            payload["tool_calls"] += chat_json.to_json(chunks)
        case inference.ChatEvent_MessageEnd(reason):
            payload["finish_reason"] = chat_json.to_json(reason)
        case inference.ChatEvent_Usage(usage):
            payload["usage"] = chat_json.to_json(usage)
