from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharia_kernel.csi import types
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.lines import FUNCTIONS
from pharia_kernel.csi.service import CsiService
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import (
    BadUpstreamAnswer,
    CsiUseFromMetadata,
    InvalidCsiCall,
    KernelError,
    NotConfigured,
    NotFound,
    UnexpectedToolCall,
    UpstreamUnavailable,
)
from tests.csi.memory import CONTEXT, MemoryCsi, ask, read

INFERENCE = "pharia:skill/inference@0.4.0"
OPEN = f"{INFERENCE}#[constructor]chat-stream"
STREAM = f"{INFERENCE}#[method]chat-stream"
NEXT = f"{STREAM}.next"
DROP = f"{INFERENCE}#[drop]chat-stream"

CHAT_PARAMS: dict[str, Any] = {
    "max-tokens": None,
    "max-completion-tokens": None,
    "temperature": None,
    "top-p": None,
    "frequency-penalty": None,
    "presence-penalty": None,
    "logprobs": ["no", None],
    "tools": None,
    "tool-choice": None,
    "parallel-tool-calls": None,
    "response-format": None,
    "reasoning-effort": None,
}
CHAT: dict[str, Any] = {"model": "model", "messages": [], "params": CHAT_PARAMS}

HELLO: list[types.ChatEvent] = [
    types.MessageBegin("assistant"),
    types.MessageAppend("Hello", []),
    types.MessageEnd(types.FinishReason.STOP),
]
HELLO_IN_WIT = [
    ["message-begin", "assistant"],
    ["message-append", {"content": "Hello"}],
    ["message-end", "stop"],
]


class Feed:
    """The events of one stream, as the test sends them."""

    def __init__(self, *events: Any) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self.send(*events)

    def send(self, *events: Any) -> None:
        for event in events:
            self._queue.put_nowait(event)

    async def events(self) -> AsyncGenerator[Any, None]:
        while (event := await self._queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


def guest_of(*feeds: Feed) -> tuple[GuestCalls, MemoryCsi]:
    """A guest whose streams are fed by these, in the order in which it opens them."""
    left = list(feeds)
    csi = MemoryCsi(lambda *_: left.pop(0).events())
    return GuestCalls(csi, CONTEXT), csi


async def turns() -> None:
    """Let every task that can run do so, several times."""
    for _ in range(10):
        await asyncio.sleep(0)


# --- what a guest may not do ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    ["", "chat", f"{INFERENCE}#nonsense", "pharia:skill/inference@0.6.0#chat", f"{INFERENCE}"],
)
async def test_unknown_function_is_named(function: str) -> None:
    guest, _ = guest_of()
    with pytest.raises(InvalidCsiCall, match="no function") as caught:
        await ask(guest, function)
    assert f"`{function}`" in caught.value.detail


@pytest.mark.parametrize(
    ("function", "arguments", "where"),
    [
        (f"{INFERENCE}#chat", [[{**CHAT, "model": 1}]], "$[0][0].model"),
        (f"{INFERENCE}#chat", [[{"model": "m", "messages": []}]], "params"),
        (f"{INFERENCE}#chat", [[CHAT], [CHAT]], "length 1"),
        (f"{INFERENCE}#chat", [], "length 1"),
        (f"{INFERENCE}#chat", [[{**CHAT, "messages": [["nobody", {}]]}]], "nobody"),
        (OPEN, [1], "length 2"),
        (OPEN, ["1", CHAT], "$[0]"),
        (NEXT, ["1"], "$[0]"),
        (NEXT, [], "length 1"),
        (DROP, ["1"], "$[0]"),
        (DROP, [1, 2], "length 1"),
    ],
)
async def test_invalid_arguments_are_named(function: str, arguments: Any, where: str) -> None:
    guest, csi = guest_of()
    with pytest.raises(InvalidCsiCall) as caught:
        await ask(guest, function, *arguments)
    assert f"`{function}`" in caught.value.detail
    assert where in caught.value.detail
    assert csi.asked == []


@pytest.mark.parametrize(
    "args",
    [b"", b"\xc1", b"\x91", b"\x91\x91", b"\xc0", b"\x91" * 5000, b"\x91\x91\x81\xa1\xff\x00"],
)
@pytest.mark.parametrize("function", [f"{INFERENCE}#chat", OPEN, NEXT, DROP])
async def test_bytes_that_are_no_arguments(function: str, args: bytes) -> None:
    guest, _ = guest_of()
    with pytest.raises(InvalidCsiCall):
        await guest.call(function, args)


@pytest.mark.parametrize(
    "request_",
    [b"\x81\xa4text\xa1\xff", b"\x81\xa7unknown" + b"\x91" * 100_000],
    ids=["not UTF-8", "nested too deep"],
)
async def test_requests_that_can_not_be_read(request_: bytes) -> None:
    guest, _ = guest_of()
    with pytest.raises(InvalidCsiCall):
        await guest.call("pharia:skill/language@0.4.0#select-language", b"\x91\x91" + request_)


@settings(max_examples=300, deadline=None)
@given(function=st.sampled_from(sorted(FUNCTIONS)), args=st.binary(max_size=40))
def test_whatever_an_engine_sends_ends_in_a_kernel_error_or_an_answer(
    function: str, args: bytes
) -> None:
    async def call() -> None:
        guest = GuestCalls(CsiService(None, Toolbox()), CONTEXT)
        try:
            await guest.call(function, args)
        except KernelError:
            pass
        finally:
            await guest.close()

    asyncio.run(call())


async def test_metadata_may_use_nothing() -> None:
    csi = MemoryCsi(lambda *_: pytest.fail("was called"))
    guest = GuestCalls(csi, CONTEXT, metadata=True)
    for function in [*FUNCTIONS, DROP, "nonsense"]:
        with pytest.raises(CsiUseFromMetadata) as caught:
            await guest.call(function, b"\x90")
        assert function in caught.value.detail
    await guest.close()
    assert csi.asked == []


# --- calls ----------------------------------------------------------------------------------------


async def test_answer_and_context_of_a_call() -> None:
    csi = MemoryCsi(lambda _, request: request.languages[-1])
    guest = GuestCalls(csi, CONTEXT)
    request = {"text": "Guten Tag", "languages": ["eng", "deu"]}
    answer = await ask(
        guest, "pharia:skill/language@0.3.11#select-language", [request, {**request, "text": ""}]
    )
    assert answer == ["deu", "deu"]
    assert csi.batches == [2]
    assert csi.contexts == [CONTEXT]


@pytest.mark.parametrize("error", [NotFound("no such document"), NotConfigured("no driver")])
async def test_error_of_a_call_is_raised_as_it_is(error: KernelError) -> None:
    def fail(*_: object) -> Any:
        raise error

    guest = GuestCalls(MemoryCsi(fail), CONTEXT)
    path = {"namespace": "n", "collection": "c", "name": "d"}
    with pytest.raises(KernelError) as caught:
        await ask(guest, "pharia:skill/document-index@0.5.0#documents", [path])
    assert caught.value is error


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
async def test_every_function_of_a_kernel_without_drivers(function: str) -> None:
    """The name of each leads to its own call, and none of them to an internal error."""
    guest = GuestCalls(CsiService(None, Toolbox()), CONTEXT)
    with pytest.raises(InvalidCsiCall) as caught:
        await guest.call(function, msgspec.msgpack.encode([None] * 9))
    assert f"`{function}`" in caught.value.detail


async def test_namespace_of_tools_is_that_of_the_skill() -> None:
    csi = MemoryCsi(lambda call, _: [] if call == "list_tools" else "no")
    seen: list[Any] = []
    guest = GuestCalls(csi, CONTEXT, on_tool_event=seen.append)
    assert await ask(guest, "pharia:skill/tool@0.4.0#list-tools") == []
    request = {"tool-name": "add", "arguments": []}
    assert await ask(guest, "pharia:skill/tool@0.4.0#invoke-tool", [request]) == [["err", "no"]]
    assert csi.namespaces == ["playground", "playground"]
    assert [event.name for event in seen] == ["add"]


# --- streams --------------------------------------------------------------------------------------


async def test_opening_a_stream_answers_at_once() -> None:
    guest, csi = guest_of(Feed())
    assert await ask(guest, OPEN, 1, CHAT) is None
    await guest.close()
    assert [call for call, _ in csi.asked] in ([], ["chat_stream"])


async def test_next_brings_all_that_has_come() -> None:
    guest, csi = guest_of(Feed(*HELLO, None))
    await ask(guest, OPEN, 1, CHAT)
    await turns()
    assert await ask(guest, NEXT, 1) == HELLO_IN_WIT
    assert await ask(guest, NEXT, 1) == []
    assert await ask(guest, NEXT, 1) == []
    assert csi.closed == ["chat_stream"]


async def test_next_waits_for_an_event() -> None:
    feed = Feed()
    guest, _ = guest_of(feed)
    await ask(guest, OPEN, 1, CHAT)
    waiting = asyncio.create_task(ask(guest, NEXT, 1))
    await turns()
    assert not waiting.done()
    feed.send(HELLO[0])
    assert await asyncio.wait_for(waiting, 10) == HELLO_IN_WIT[:1]
    await guest.close()


async def test_error_comes_after_the_events_before_it() -> None:
    guest, _ = guest_of(Feed(*HELLO[:2], UpstreamUnavailable("gone")))
    await ask(guest, OPEN, 1, CHAT)
    await turns()
    assert await ask(guest, NEXT, 1) == HELLO_IN_WIT[:2]
    with pytest.raises(UpstreamUnavailable, match="gone"):
        await ask(guest, NEXT, 1)


async def test_event_that_the_line_cannot_express_comes_after_those_before_it() -> None:
    """The error must not swallow what a streaming skill would have passed on."""
    guest, csi = guest_of(Feed(*HELLO[:2], types.MessageEnd(types.FinishReason.TOOL_CALLS)))
    params = {k: CHAT_PARAMS[k] for k in ("max-tokens", "temperature", "top-p", "logprobs")}
    params |= {"frequency-penalty": None, "presence-penalty": None}
    old = "pharia:skill/inference@0.3.11#"
    await ask(guest, f"{old}[constructor]chat-stream", 1, {**CHAT, "params": params})
    await turns()
    assert len(await ask(guest, f"{old}[method]chat-stream.next", 1)) == 2
    with pytest.raises(UnexpectedToolCall):
        await ask(guest, f"{old}[method]chat-stream.next", 1)
    await turns()
    assert csi.closed == ["chat_stream"]


async def test_senseless_index_of_a_tool_call_is_the_backends_fault() -> None:
    guest, _ = guest_of(Feed(types.ToolCallDelta([types.ToolCallChunk(-1)])))
    await ask(guest, OPEN, 1, CHAT)
    with pytest.raises(BadUpstreamAnswer, match="-1"):
        await ask(guest, NEXT, 1)


async def test_what_keeps_a_stream_from_opening_is_told_by_next() -> None:
    guest = GuestCalls(CsiService(None, Toolbox()), CONTEXT)
    await ask(guest, OPEN, 1, CHAT)
    await turns()
    with pytest.raises(NotConfigured):
        await ask(guest, NEXT, 1)
    await guest.close()


async def test_streams_do_not_mix() -> None:
    first, second = Feed(HELLO[0]), Feed(HELLO[1])
    guest, _ = guest_of(first, second)
    await ask(guest, OPEN, 7, CHAT)
    await turns()
    await ask(guest, OPEN, 3, CHAT)
    assert await ask(guest, NEXT, 3) == HELLO_IN_WIT[1:2]
    assert await ask(guest, NEXT, 7) == HELLO_IN_WIT[:1]
    await ask(guest, DROP, 7)
    second.send(HELLO[2], None)
    assert await read(guest, STREAM, 3) == HELLO_IN_WIT[2:]


async def test_drop_closes_the_source_without_making_the_guest_wait() -> None:
    closed, release = asyncio.Event(), asyncio.Event()

    async def slow_to_close() -> AsyncGenerator[Any, None]:
        try:
            yield HELLO[0]
            await asyncio.Event().wait()
        finally:
            await release.wait()
            closed.set()

    csi = MemoryCsi(lambda *_: slow_to_close())
    guest = GuestCalls(csi, CONTEXT)
    await ask(guest, OPEN, 1, CHAT)
    assert await ask(guest, NEXT, 1) == HELLO_IN_WIT[:1]
    assert await ask(guest, DROP, 1) is None
    assert not closed.is_set()
    closing = asyncio.create_task(guest.close())
    await turns()
    assert not closing.done()  # the end of the run waits for it
    release.set()
    await asyncio.wait_for(closing, 10)
    assert closed.is_set()


async def test_dropped_stream_is_gone() -> None:
    guest, csi = guest_of(Feed())
    await ask(guest, OPEN, 1, CHAT)
    await turns()
    await ask(guest, DROP, 1)
    with pytest.raises(InvalidCsiCall, match="stream 1"):
        await ask(guest, NEXT, 1)
    await guest.close()
    assert csi.closed == ["chat_stream"]


async def test_dropping_what_is_not_open_does_nothing() -> None:
    guest, _ = guest_of(Feed())
    assert await ask(guest, DROP, 1) is None
    await ask(guest, OPEN, 1, CHAT)
    assert await ask(guest, DROP, 1) is None
    assert await ask(guest, DROP, 1) is None


async def test_next_of_a_stream_that_was_never_opened() -> None:
    guest, _ = guest_of()
    with pytest.raises(InvalidCsiCall, match="stream 42"):
        await ask(guest, NEXT, 42)


async def test_a_handle_in_use_is_not_opened_again() -> None:
    guest, csi = guest_of(Feed(*HELLO, None), Feed())
    await ask(guest, OPEN, 1, CHAT)
    with pytest.raises(InvalidCsiCall, match="stream 1"):
        await ask(guest, OPEN, 1, CHAT)
    assert await read(guest, STREAM, 1) == HELLO_IN_WIT
    assert len(csi.asked) == 1


async def test_close_closes_all_that_is_left_open() -> None:
    guest, csi = guest_of(Feed(HELLO[0]), Feed(), Feed())
    for handle in range(3):
        await ask(guest, OPEN, handle, CHAT)
    await turns()
    await ask(guest, DROP, 2)
    await guest.close()
    assert csi.closed == ["chat_stream"] * 3
    await guest.close()


async def test_close_wakes_a_guest_that_waits() -> None:
    guest, csi = guest_of(Feed())
    await ask(guest, OPEN, 1, CHAT)
    waiting = asyncio.create_task(ask(guest, NEXT, 1))
    await turns()
    await guest.close()
    assert await asyncio.wait_for(waiting, 10) == []
    assert csi.closed == ["chat_stream"]


async def test_one_stream_that_fails_to_close_does_not_keep_others_open() -> None:
    closed = asyncio.Event()

    async def bad() -> AsyncGenerator[Any, None]:
        try:
            yield HELLO[0]
            await asyncio.Event().wait()
        finally:
            raise UpstreamUnavailable("connection lost while closing")

    async def good() -> AsyncGenerator[Any, None]:
        try:
            yield HELLO[0]
            await asyncio.Event().wait()
        finally:
            closed.set()

    streams = [bad(), good()]
    guest = GuestCalls(MemoryCsi(lambda *_: streams.pop(0)), CONTEXT)
    for handle in (1, 2):
        await ask(guest, OPEN, handle, CHAT)
        await ask(guest, NEXT, handle)
    await guest.close()
    assert closed.is_set()
