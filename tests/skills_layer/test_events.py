import asyncio
import itertools

import pytest
from msgspec import Raw

from pharia_kernel.csi.api import ToolEvent
from pharia_kernel.engine.api import (
    BeginAttributes,
    MessageAppendItem,
    MessageBeginItem,
    MessageEndItem,
    ReasoningItem,
    StreamItem,
)
from pharia_kernel.errors import InvalidOutput, SkillCrashed, StreamOrderViolation
from pharia_kernel.skills.events import EventBuffer, MessageOrder, check_json, tool_event
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
from tests.skills_layer.support import PATIENCE, eventually

BEGIN, APPEND = MessageBeginItem(BeginAttributes("assistant")), MessageAppendItem("text")
REASON, END = ReasoningItem("hm"), MessageEndItem(None)


def accept_all(*items: StreamItem) -> list[StreamEvent]:
    order = MessageOrder()
    return [order.accept(item) for item in items]


# --- the order of a message -----------------------------------------------------------------------


def test_several_messages_in_order() -> None:
    assert accept_all(
        BEGIN, REASON, APPEND, END, BEGIN, MessageEndItem(b' { "a" : [1, 2.50] }\n')
    ) == [
        MessageBegin(),
        Reasoning("hm"),
        MessageAppend("text"),
        MessageEnd(),
        MessageBegin(),
        MessageEnd(Raw(b'{"a":[1,2.50]}')),
    ]


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ([APPEND], "appended to a message before"),
        ([REASON], "reasoning before"),
        ([END], "ended a message before"),
        ([BEGIN, BEGIN], "while another one was open"),
        ([BEGIN, END, APPEND], "appended to a message before"),
        ([BEGIN, END, END], "ended a message before"),
    ],
)
def test_what_is_out_of_order(items: list[StreamItem], complaint: str) -> None:
    with pytest.raises(StreamOrderViolation, match=complaint):
        accept_all(*items)


def test_a_rule_book_agrees_for_every_sequence() -> None:
    every: list[StreamItem] = [BEGIN, APPEND, REASON, END]
    for items in itertools.product(every, repeat=5):
        is_open, legal = False, True
        for item in items:
            legal = legal and is_open is (item is not BEGIN)
            is_open = item is BEGIN or (is_open and item is not END)
        try:
            accept_all(*items)
        except StreamOrderViolation:
            assert not legal
        else:
            assert legal


@pytest.mark.parametrize("payload", [b"{", b"", b'"\xff"', b"nul", b"[1,]", b"[" * 100_000])
@pytest.mark.parametrize("before", [[], [BEGIN]])
def test_payloads_must_be_json_whether_or_not_a_message_is_open(
    payload: bytes, before: list[StreamItem]
) -> None:
    with pytest.raises(InvalidOutput, match="payload"):
        accept_all(*before, MessageEndItem(payload))


def test_json_is_not_changed_by_checking() -> None:
    check_json(b'{"n": 1e999, "u": "\xc3\xa4"}', "It")
    with pytest.raises(InvalidOutput, match="It is not JSON"):
        check_json(b'"\xed\xa0\x80"', "It")


def test_tool_events() -> None:
    assert tool_event(ToolEvent("add")) == ToolBegin("add")
    assert tool_event(ToolEvent("add", done=True)) == ToolEnd("add")
    assert tool_event(ToolEvent("add", done=True, error="no")) == ToolError("add", "no")
    assert tool_event(ToolEvent("add", error="")) == ToolError("add", "")


# --- the buffer -----------------------------------------------------------------------------------


async def collect(buffer: EventBuffer) -> list[StreamEvent]:
    return [event async for event in buffer.drain()]


async def test_everything_arrives_in_order_and_the_error_last() -> None:
    buffer = EventBuffer()
    got: list[StreamEvent] = []
    for n in range(3):
        buffer.put(MessageAppend(str(n)))
    buffer.end(SkillCrashed("oh"))
    with pytest.raises(SkillCrashed):
        async for event in buffer.drain():
            got.append(event)
    assert got == [MessageAppend("0"), MessageAppend("1"), MessageAppend("2")]


async def test_a_waiting_consumer_gets_events_as_they_come() -> None:
    buffer = EventBuffer()
    events = buffer.drain()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    assert not first.done()
    buffer.put(MessageBegin())
    assert await asyncio.wait_for(first, PATIENCE) == MessageBegin()
    buffer.end()
    assert [event async for event in events] == []


async def test_consumed_is_told_when_the_consumer_comes_back() -> None:
    buffer = EventBuffer()
    consumed: list[int] = []
    for n in range(3):
        buffer.put(MessageAppend(str(n)), lambda n=n: consumed.append(n))  # type: ignore[misc]
    buffer.end()
    events = buffer.drain()
    await anext(events)
    assert consumed == []
    await anext(events)
    assert consumed == [0]
    await events.aclose()
    assert consumed == [0]


async def test_producers_wait_for_room() -> None:
    buffer = EventBuffer()
    made = 0

    async def produce() -> None:
        nonlocal made
        while made < 999:
            made += 1
            buffer.put(MessageAppend(""))
            await buffer.room()
        buffer.end()

    producer = asyncio.create_task(produce())
    await eventually(lambda: made >= EventBuffer.LIMIT)
    events = buffer.drain()
    await anext(events)
    await eventually(lambda: made == EventBuffer.LIMIT + 1)
    assert not producer.done()
    assert len([event async for event in events]) == 998
    await producer
