"""The component of a message-stream skill."""

from __future__ import annotations

from typing import Any

import wit_world
from wit_world.exports.message_stream import Error_Internal, Error_InvalidInput
from wit_world.imports import streaming_output as wit

from pharia_kernel_sdk.csi.inference import Reasoning
from pharia_kernel_sdk.declaration import Declaration
from pharia_kernel_sdk.guest.bindings import Err
from pharia_kernel_sdk.guest.running import Runner, warm_up
from pharia_kernel_sdk.guest.wasm_csi import WasmCsi
from pharia_kernel_sdk.streaming import (
    ItemOrder,
    MessageAppend,
    MessageBegin,
    MessageItem,
    MessageWriter,
    payload_json,
)

runner = Runner(Error_Internal, Error_InvalidInput)


class _Writer(MessageWriter[Any]):
    def __init__(self, output: Any) -> None:
        self._output = output
        self._order = ItemOrder()

    def write(self, item: MessageItem) -> None:
        self._order.check(item)
        self._output.write(_item(item))


def _item(item: MessageItem) -> Any:
    if isinstance(item, MessageAppend):
        return wit.MessageItem_MessageAppend(item.text)
    if isinstance(item, Reasoning):
        return wit.MessageItem_Reasoning(item.content)
    if isinstance(item, MessageBegin):
        return wit.MessageItem_MessageBegin(wit.BeginAttributes(item.role))
    return wit.MessageItem_MessageEnd(payload_json(item.payload))


class MessageStream(wit_world.exports.MessageStream):  # type: ignore[misc]
    def run(self, input: bytes, output: Any) -> None:
        with output:
            if runner.declaration is None:
                # Of the exported functions only this one takes input, and it returns nothing.
                answer = runner.load(input)
                raise Err(Error_Internal(answer.decode()))
            runner.run(input, lambda skill, value: _stream(skill, value, output))


def _stream(skill: Declaration, value: Any, output: Any) -> None:
    skill.function(WasmCsi(), _Writer(output), value)


warm_up()
