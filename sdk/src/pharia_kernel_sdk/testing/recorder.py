"""A message stream that remembers what was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from pharia_kernel_sdk.csi.inference import Reasoning
from pharia_kernel_sdk.streaming import (
    ItemOrder,
    MessageAppend,
    MessageBegin,
    MessageItem,
    MessageWriter,
    Payload,
    payload_json,
)


@dataclass
class RecordedMessage(Generic[Payload]):
    """What a caller would have seen of one message."""

    role: str | None
    content: str = ""
    payload: Payload | None = None
    reasoning_content: str | None = None


class MessageRecorder(MessageWriter[Payload]):
    """To be passed to a message-stream skill in a test.

    ``items`` are those written, in order; ``messages`` puts them together. Writes fail where they
    would fail in the kernel: items out of order, and payloads that are no JSON.
    """

    def __init__(self) -> None:
        self.items: list[MessageItem] = []
        self._order = ItemOrder()

    def write(self, item: MessageItem) -> None:
        self._order.check(item)
        if not isinstance(item, MessageBegin | MessageAppend | Reasoning):
            payload_json(item.payload)
        self.items.append(item)

    def messages(self) -> list[RecordedMessage[Payload]]:
        """What was written so far, by message."""
        messages: list[RecordedMessage[Any]] = []
        for item in self.items:
            if isinstance(item, MessageBegin):
                messages.append(RecordedMessage(item.role))
            elif isinstance(item, MessageAppend):
                messages[-1].content += item.text
            elif isinstance(item, Reasoning):
                before = messages[-1].reasoning_content or ""
                messages[-1].reasoning_content = before + item.content
            else:
                messages[-1].payload = item.payload
        return messages
