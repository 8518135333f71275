"""Answers that are read while a model writes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Generic, TypeVar

from pharia_kernel_sdk.csi.inference import (
    ChatEvent,
    CompletionAppend,
    CompletionEvent,
    FinishReason,
    Message,
    MessageAppend,
    MessageBegin,
    Reasoning,
    Role,
    TokenUsage,
    ToolCall,
    ToolCallEvent,
)

Event = TypeVar("Event")
_Self = TypeVar("_Self", bound="_Response")  # type: ignore[type-arg]


class _Response(ABC, Generic[Event]):
    """What both kinds of stream have in common. Leaving its ``with`` block ends the stream."""

    _finish_reason: FinishReason | None = None
    _usage: TokenUsage | None = None

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; what is left of it is not generated."""
        return

    @abstractmethod
    def next(self) -> Event | None:
        """The next event; None at the end, and from then on."""

    def finish_reason(self) -> FinishReason:
        """Why the model stopped. Reads the stream up to there."""
        while self._finish_reason is None and self._advance():
            pass
        if self._finish_reason is None:
            raise ValueError("The stream ended without a reason.")
        return self._finish_reason

    def usage(self) -> TokenUsage:
        """Tokens that were read and written. Reads the stream to its end.

        Raises ``ValueError`` if the model's provider does not report them.
        """
        while self._usage is None and self._advance():
            pass
        if self._usage is None:
            raise ValueError("The stream ended without usage: the provider does not report it.")
        return self._usage

    @abstractmethod
    def _advance(self) -> bool:
        """Reads an event for its side effect; False at the end."""


class CompletionStreamResponse(_Response[CompletionEvent]):
    """A completion that can be read while it is generated."""

    def stream(self) -> Iterator[CompletionAppend]:
        """The pieces of text."""
        while (event := self.next()) is not None:
            if isinstance(event, CompletionAppend):
                yield event
            else:
                self._note(event)

    def _note(self, event: CompletionEvent) -> None:
        if isinstance(event, FinishReason):
            self._finish_reason = event
        elif isinstance(event, TokenUsage):
            self._usage = event

    def _advance(self) -> bool:
        event = self.next()
        if event is not None:
            self._note(event)
        return event is not None


class ChatStreamResponse(_Response[ChatEvent]):
    """An answer that can be read while it is generated.

    ``role`` is known from the start. What is read by ``stream`` and its like is gone, except that
    ``tool_calls`` leaves all that it has read to be read again.
    """

    role: str

    def __init__(self) -> None:
        self._ahead: deque[ChatEvent] = deque()
        self._calls: dict[int, ToolCall] = {}
        self._thoughts: list[str] = []
        first = self._next()
        if not isinstance(first, MessageBegin):
            raise ValueError(f"A chat stream must begin with a message, not with {first!r}.")
        self.role = first.role

    def next(self) -> ChatEvent | None:
        return self._ahead.popleft() if self._ahead else self._next()

    @abstractmethod
    def _next(self) -> ChatEvent | None:
        """The next event of the source."""

    def stream(self) -> Iterator[MessageAppend]:
        """The pieces of the message; reasoning and tool calls are kept aside."""
        while (event := self.next()) is not None:
            if isinstance(event, MessageAppend):
                yield event
            else:
                self._note(event)

    def stream_with_reasoning(self) -> Iterator[MessageAppend | Reasoning]:
        """The pieces of the message and of the reasoning, as they come."""
        while (event := self.next()) is not None:
            if isinstance(event, MessageAppend | Reasoning):
                yield event
            if not isinstance(event, MessageAppend):
                self._note(event)

    def tool_calls(self) -> list[ToolCall]:
        """The tools that the model asks for; empty if it answers with a message.

        To be called before the stream is read: then it waits for the first text or tool call, and
        where the model calls tools, for the end; all of it can still be read. Or to be called
        after that, for models that say something first and then call tools.
        """
        calls = dict(self._calls)
        peeked: list[ChatEvent] = []
        while (event := self.next()) is not None:
            peeked.append(event)
            if isinstance(event, ToolCallEvent):
                collect(event, calls)
            elif isinstance(event, MessageAppend) and event.content.strip() and not calls:
                break
        self._ahead.extendleft(reversed(peeked))
        return in_order(calls)

    def tool_call(self) -> ToolCall | None:
        """The first of ``tool_calls``, if there are any."""
        return next(iter(self.tool_calls()), None)

    def consume_message(self) -> Message:
        """The rest of the stream as one message, with the model's reasoning and tool calls."""
        content = "".join(append.content for append in self.stream())
        return Message(
            Role(self.role),
            content,
            reasoning_content="".join(self._thoughts) or None,
            tool_calls=in_order(self._calls) or None,
        )

    def _note(self, event: ChatEvent) -> None:
        if isinstance(event, FinishReason):
            self._finish_reason = event
        elif isinstance(event, TokenUsage):
            self._usage = event
        elif isinstance(event, Reasoning):
            self._thoughts.append(event.content)
        elif isinstance(event, ToolCallEvent):
            collect(event, self._calls)
        elif isinstance(event, MessageBegin):
            raise ValueError("A second message begins in a chat stream.")

    def _advance(self) -> bool:
        event = self.next()
        if event is not None:
            self._note(event)
        return event is not None


def collect(event: ToolCallEvent, calls: dict[int, ToolCall]) -> None:
    """Adds the pieces to the calls, by index."""
    for chunk in event.chunks:
        known = calls.get(chunk.index, ToolCall("", "", ""))
        calls[chunk.index] = ToolCall(
            chunk.id or known.id,
            chunk.name or known.name,
            known.arguments + (chunk.arguments or ""),
        )


def in_order(calls: dict[int, ToolCall]) -> list[ToolCall]:
    return [calls[index] for index in sorted(calls)]
