"""What a run of a message stream leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pharia_kernel_sdk.streaming import MessageItem
from pharia_kernel_sdk.testing.recorder import MessageRecorder, RecordedMessage


@dataclass(frozen=True)
class Streamed:
    """All that a message stream wrote; payloads are plain JSON values."""

    items: list[MessageItem]
    messages: list[RecordedMessage[Any]]

    @property
    def text(self) -> str:
        """The text of all messages."""
        return "".join(message.content for message in self.messages)

    @classmethod
    def of(cls, recorder: MessageRecorder[Any]) -> Streamed:
        """What the recorder has got until now."""
        return cls(recorder.items, recorder.messages())
