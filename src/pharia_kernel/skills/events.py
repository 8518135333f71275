"""The events of one message stream, on their way from whoever produces them to the client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

import msgspec
from msgspec import Raw

from pharia_kernel.csi.api import ToolEvent
from pharia_kernel.engine.api import (
    MessageAppendItem,
    MessageBeginItem,
    MessageEndItem,
    ReasoningItem,
    StreamItem,
)
from pharia_kernel.errors import InvalidOutput, KernelError, StreamOrderViolation
from pharia_kernel.skills.types import (
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    StreamEvent,
    ToolBegin,
    ToolEnd,
    ToolError,
)


def json_of(data: bytes, what: str) -> bytes:
    """The JSON text without insignificant white space; raises ``InvalidOutput`` that names
    ``what``.
    """
    check_json(data, what)
    try:
        return msgspec.json.format(data, indent=-1)
    except RecursionError as error:  # takes more of the stack than checking
        raise InvalidOutput(f"{what} can't be read: {error}.") from None


def check_json(data: bytes, what: str) -> None:
    """Raise ``InvalidOutput`` that names ``what``, unless it is JSON in UTF-8."""
    try:
        data.decode()  # msgspec looks at the structure only
        msgspec.json.decode(data, type=Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidOutput(f"{what} is not JSON: {error}.") from None


class MessageOrder:
    """Messages are begun before they are continued or ended, and one at a time.

    The last message may stay open.
    """

    def __init__(self) -> None:
        self._open = False

    def accept(self, item: StreamItem) -> StreamEvent:
        """The event for an item; raises ``StreamOrderViolation`` or ``InvalidOutput``."""
        match item:
            case MessageBeginItem():
                self._require(not self._open, "began a message while another one was open")
                self._open = True
                return MessageBegin()
            case MessageAppendItem(text):
                self._require(self._open, "appended to a message before it began one")
                return MessageAppend(text)
            case ReasoningItem(text):
                self._require(self._open, "emitted reasoning before it began a message")
                return Reasoning(text)
            case MessageEndItem(payload):
                end = MessageEnd() if payload is None else MessageEnd(Raw(_payload(payload)))
                self._require(self._open, "ended a message before it began one")
                self._open = False
                return end

    def _require(self, condition: bool, otherwise: str) -> None:
        if not condition:
            raise StreamOrderViolation(f"The skill {otherwise}.")


def _payload(data: bytes) -> bytes:
    return json_of(data, "The payload at the end of the message")


def tool_event(event: ToolEvent) -> StreamEvent:
    if event.error is not None:
        return ToolError(event.name, event.error)
    return ToolEnd(event.name) if event.done else ToolBegin(event.name)


def _nothing() -> None:
    pass


class EventBuffer:
    """A queue with one consumer: everything that was put arrives in order, then the end or the
    error.

    Putting never blocks, because frames of an engine can't be held back; producers that can wait do
    so in ``room``. A guest's own items are bounded by its window, which ``consumed`` opens again.
    """

    LIMIT = 64
    """Events beyond which ``room`` makes producers wait."""

    def __init__(self) -> None:
        self._events: deque[tuple[StreamEvent, Callable[[], None]]] = deque()
        self._ended = False
        self.error: KernelError | None = None
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def put(self, event: StreamEvent, consumed: Callable[[], None] = _nothing) -> None:
        self._events.append((event, consumed))
        self._filled.set()
        if len(self._events) >= self.LIMIT:
            self._drained.clear()

    async def room(self) -> None:
        """Wait until the consumer has caught up."""
        await self._drained.wait()

    def end(self, error: KernelError | None = None) -> None:
        """No more events; with ``error``, the consumer gets it after the last one."""
        self._ended, self.error = True, error
        self._filled.set()

    @property
    def empty(self) -> bool:
        return not self._events

    async def drain(self) -> AsyncGenerator[StreamEvent, None]:
        """All events; ``consumed`` is called when the consumer comes back for the next one."""
        while True:
            while self._events:
                event, consumed = self._events.popleft()
                if len(self._events) < self.LIMIT:
                    self._drained.set()
                yield event
                consumed()
            if self._ended:
                break
            self._filled.clear()
            await self._filled.wait()
        if self.error:
            raise self.error
