"""How one function of a WIT line is described."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from pharia_kernel.engine.surface import interface_name

if TYPE_CHECKING:
    from pharia_kernel.csi.guest import GuestCalls


Events = AsyncGenerator[Any, None]
Convert = Callable[[Any], Any]


class Function(msgspec.Struct, frozen=True):
    arguments: msgspec.msgpack.Decoder[Any]
    """Of the tuple of arguments."""
    call: Callable[..., Coroutine[Any, Any, Any]]
    """(guest calls, *arguments) -> result in the line's shape."""


def call(handler: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Function:
    """A function with arguments of these types."""
    return Function(msgspec.msgpack.Decoder(tuple[arguments]), handler)  # type: ignore[valid-type]


def opened(source: Callable[[GuestCalls, Any], Events], event: Convert, init: Any) -> Function:
    """A constructor of a stream: gets the handle and the argument; nobody waits for it.

    ``event`` turns an internal event into the line's. Whatever fails, ``source`` included, is told
    to the first ``next`` that gets so far.
    """

    async def open_(guest: GuestCalls, handle: int, argument: Any) -> None:
        guest.open_stream(handle, _converted(lambda: source(guest, argument), event))

    return Function(msgspec.msgpack.Decoder(tuple[int, init]), open_)


async def _converted(source: Callable[[], Events], event: Convert) -> Events:
    async with aclosing(source()) as events:
        async for internal in events:
            yield event(internal)


async def _next(guest: GuestCalls, handle: int) -> list[Any]:
    return await guest.next_events(handle)


NEXT = Function(msgspec.msgpack.Decoder(tuple[int]), _next)
"""The ``next`` of a stream; the engine keeps the events that come before it asks for them."""


def named(line: str, interfaces: dict[str, dict[str, Function]]) -> dict[str, Function]:
    """Full names from interface -> function -> description."""
    return {
        f"{interface_name(line, interface)}#{name}": function
        for interface, functions in interfaces.items()
        for name, function in functions.items()
    }
