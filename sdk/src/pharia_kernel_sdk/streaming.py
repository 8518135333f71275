"""What message-stream skills write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pharia_kernel_sdk.csi.inference import Reasoning
from pharia_kernel_sdk.csi.streams import ChatStreamResponse, CompletionStreamResponse
from pharia_kernel_sdk.shapes import shape_of

Payload = TypeVar("Payload")


@dataclass
class MessageBegin:
    """A message starts."""

    role: str | None = None


@dataclass
class MessageAppend:
    """The next piece of the message."""

    text: str


@dataclass
class MessageEnd(Generic[Payload]):
    """The message is complete; the payload is any JSON that belongs to it."""

    payload: Payload | None = None


MessageItem = MessageBegin | Reasoning | MessageAppend | MessageEnd[Any]
"""What a message stream consists of."""


class StreamOrderError(ValueError):
    """An item does not fit behind those that were written before."""


class MessageWriter(ABC, Generic[Payload]):
    """Writes messages for the caller, who sees each piece at once.

    ``Payload`` in ``MessageWriter[Payload]`` is the type of what ends a message besides its text.
    """

    @abstractmethod
    def write(self, item: MessageItem) -> None:
        """Writes one item; the methods below are easier to use."""

    def begin_message(self, role: str | None = None) -> None:
        """Opens a message; the one before must have ended."""
        self.write(MessageBegin(role))

    def append_to_message(self, text: str) -> None:
        """Writes the next piece of the open message."""
        self.write(MessageAppend(text))

    def append_to_reasoning(self, text: str) -> None:
        """Writes the next piece of the thoughts behind the open message."""
        self.write(Reasoning(text))

    def end_message(self, payload: Payload | None = None) -> None:
        """Closes the open message; the payload is any JSON that belongs to it."""
        self.write(MessageEnd(payload))

    def forward_response(
        self,
        response: CompletionStreamResponse | ChatStreamResponse,
        payload: Callable[..., Payload] | Payload | None = None,
    ) -> None:
        """Writes what a model answers, reasoning included, as one message.

        ``payload`` may be a function of the response, which is called when that is complete.
        """
        if isinstance(response, ChatStreamResponse):
            self.begin_message(response.role)
            for piece in response.stream_with_reasoning():
                if isinstance(piece, Reasoning):
                    self.append_to_reasoning(piece.content)
                else:
                    self.append_to_message(piece.content)
        else:
            self.begin_message()
            for append in response.stream():
                self.append_to_message(append.text)
        self.end_message(payload(response) if callable(payload) else payload)


class ItemOrder:
    """Whether items come in an order that the kernel accepts."""

    def __init__(self) -> None:
        self._open = False

    def check(self, item: MessageItem) -> None:
        """Raises ``StreamOrderError``."""
        name = type(item).__name__
        if isinstance(item, MessageBegin):
            if self._open:
                raise StreamOrderError("MessageBegin: the message before it has not ended.")
            self._open = True
        elif not self._open:
            raise StreamOrderError(f"{name}: no message has begun.")
        elif isinstance(item, MessageEnd):
            self._open = False


def payload_json(payload: Any) -> bytes | None:
    """The payload of an end as JSON in UTF-8."""
    return None if payload is None else shape_of(_type_of(payload)).dump_json(payload)


def _type_of(value: Any) -> Any:
    return Any if isinstance(value, dict | list | str | int | float | bool) else type(value)
