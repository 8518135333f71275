from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

from pharia_kernel.shell.connection import HeadWithBody
from pharia_kernel.skills.types import MessageBegin, StreamEvent
from tests.shell.support import MemorySkills, app_of, listening, post_raw, within

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Packets(asyncio.Transport):
    """Tells what left together, which a socket does not."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        self.sent.append(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def connection() -> tuple[Packets, HeadWithBody]:
    packets = Packets()
    return packets, HeadWithBody(packets, asyncio.get_running_loop())


async def turn() -> None:
    """Let everything run that is to run in this turn of the loop."""
    await asyncio.sleep(0)


async def test_head_and_body_leave_together() -> None:
    packets, transport = connection()
    transport.write(HEAD)
    transport.write(b"body")
    assert packets.sent == [HEAD + b"body"]
    await turn()
    assert packets.sent == [HEAD + b"body"]


async def test_the_head_waits_for_one_turn_only() -> None:
    packets, transport = connection()
    transport.write(HEAD)
    assert packets.sent == []
    await turn()
    assert packets.sent == [HEAD]
    transport.write(b"event")
    assert packets.sent == [HEAD, b"event"]


async def test_answers_that_follow_each_other_are_alike() -> None:
    packets, transport = connection()
    for _ in range(2):
        transport.write(HEAD)
        transport.write(b"body")
    assert packets.sent == [HEAD + b"body"] * 2


async def test_closing_sends_the_head_first() -> None:
    packets, transport = connection()
    transport.write(HEAD)
    transport.close()
    assert packets.sent == [HEAD]
    assert packets.closed
    await turn()
    assert packets.sent == [HEAD]


async def test_nothing_is_written_to_a_connection_that_was_lost() -> None:
    packets, transport = connection()
    transport.write(HEAD)
    packets.close()
    await turn()
    assert packets.sent == []


async def test_the_head_of_a_stream_does_not_wait_for_its_first_event(
    skills: MemorySkills,
) -> None:
    go_on = asyncio.Event()

    async def stream(body: bytes) -> AsyncGenerator[StreamEvent, None]:
        await go_on.wait()
        yield MessageBegin()

    skills.streams["slow"] = stream
    async with listening(app_of(skills)) as port:
        reader, writer = await post_raw(port, "/v1/skills/dev/slow/message-stream")
        head = await within(reader.readuntil(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 200 ")
        go_on.set()
        assert b"event: message" in await within(reader.readuntil(b"\n\n"))
        writer.close()
