"""What skills have in common for those who call them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pharia_kernel_sdk.streaming import MessageEnd, MessageItem, payload_json
from pharia_kernel_sdk.testing.recorder import MessageRecorder


@dataclass(frozen=True)
class ToolNotice:
    """What became of a tool call, as kernels tell callers of a message stream."""

    name: str
    state: Literal["begin", "end", "error"]
    message: str | None = None
    """Of an error."""


Item = MessageItem | ToolNotice
Listener = Callable[[Item], None]


def nobody(_: Item) -> None:
    """The listener of those who only want the result."""


class Runnable(Protocol):
    """A skill that can be called, by several threads at once."""

    def run(self, input_: bytes, listener: Listener = nobody) -> Any:
        """The output of a function as a JSON value, or all that a message stream wrote
        (``results.Streamed``), whose items ``listener`` gets as they are written.

        ``input_`` is JSON. Raises ``SkillError`` if the skill has no result, ``CsiError`` if a
        kernel could not answer the skill, and ``KernelError`` if one could not run it.
        """


class TellingRecorder(MessageRecorder[Any]):
    """Also tells a listener. Payloads become plain JSON values, which is what callers get."""

    def __init__(self, listener: Listener = nobody) -> None:
        super().__init__()
        self._listener = listener

    def write(self, item: MessageItem) -> None:
        if isinstance(item, MessageEnd):
            item = MessageEnd(json.loads(payload_json(item.payload) or b"null"))
        super().write(item)
        self._listener(item)
