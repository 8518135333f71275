"""Conversations in which a model calls tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from pharia_kernel_sdk.csi.inference import (
    ChatEvent,
    FinishReason,
    Message,
    MessageAppend,
    MessageBegin,
    Role,
    TokenUsage,
    ToolCall,
    ToolCallEvent,
)
from pharia_kernel_sdk.csi.streams import ChatStreamResponse, collect, in_order
from pharia_kernel_sdk.csi.tools import InvokeRequest, ToolError, ToolResult

Ask = Callable[[list[Message]], ChatStreamResponse]
Invoke = Callable[[Sequence[InvokeRequest]], list[ToolResult]]


class ToolLoop(ChatStreamResponse):
    """One answer for as many turns as the model takes.

    What the model says passes through as it comes, also what it says before it calls tools. When
    a turn ends with calls, these are made, and the next turn follows. Usage is that of all turns.
    """

    def __init__(self, ask: Ask, invoke: Invoke, messages: list[Message], max_turns: int) -> None:
        self._ask = ask
        self._invoke = invoke
        self._conversation = list(messages)
        self._turns_left = max_turns
        self._total = TokenUsage(0, 0)
        self._turn = self._next_turn()
        self._first: MessageBegin | None = MessageBegin(self._turn.role)
        super().__init__()

    def _next(self) -> ChatEvent | None:
        """Each turn has read its own begin; of all turns there is one."""
        if self._first is not None:
            begin, self._first = self._first, None
            return begin
        while (event := self._turn.next()) is not None:
            if isinstance(event, MessageAppend):
                self._said.append(event.content)
            elif isinstance(event, ToolCallEvent):
                collect(event, self._asked)
                continue
            elif isinstance(event, TokenUsage):
                self._count(event)
                return self._total
            elif isinstance(event, FinishReason) and self._asked:
                self._answer_calls()
                continue
            return event
        return None

    def _next_turn(self) -> ChatStreamResponse:
        self._turns_left -= 1
        self._said: list[str] = []
        self._asked: dict[int, ToolCall] = {}
        return self._ask(self._conversation)

    def _answer_calls(self) -> None:
        calls = in_order(self._asked)
        with self._turn as turn:
            while (event := turn.next()) is not None:
                if isinstance(event, TokenUsage):
                    self._count(event)
        if not self._turns_left:
            names = ", ".join(call.name for call in calls)
            raise ToolError(f"The model still calls tools ({names}) after the last of its turns.")
        said = Message(Role.Assistant, "".join(self._said), tool_calls=calls)
        self._conversation += [said, *answers(calls, self._invoke)]
        self._turn = self._next_turn()

    def _count(self, usage: TokenUsage) -> None:
        self._total = TokenUsage(
            self._total.prompt + usage.prompt, self._total.completion + usage.completion
        )

    def close(self) -> None:
        self._turn.close()


def answers(calls: list[ToolCall], invoke: Invoke) -> list[Message]:
    """What the tools answer, in the order of the calls. Errors are answers, too: the model may know
    what to do about them."""
    requests: list[InvokeRequest] = []
    places: list[int] = []
    texts: dict[int, str] = {}
    for place, call in enumerate(calls):
        try:
            requests.append(InvokeRequest(call.name, call.parameters))
            places.append(place)
        except ValueError as error:
            texts[place] = json.dumps({"error": str(error)})
    for place, result in zip(places, invoke(requests), strict=True):
        if isinstance(result, ToolError):
            texts[place] = json.dumps({"error": result.message})
        else:
            texts[place] = result.text()
    return [Message.tool(texts[place], call.id) for place, call in enumerate(calls)]
