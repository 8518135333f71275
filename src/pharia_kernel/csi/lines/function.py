"""How one function of a WIT line is described."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from pharia_kernel.engine.surface import interface_name

if TYPE_CHECKING:
    from pharia_kernel.csi.guest import GuestCalls


class Function(msgspec.Struct, frozen=True):
    arguments: msgspec.msgpack.Decoder[Any]
    """Of the tuple of arguments."""
    call: Callable[..., Coroutine[Any, Any, Any]]
    """(guest calls, *arguments) -> result in the line's shape."""
    event: Callable[[Any], Any] | None = None
    """For the ``next`` of a stream: from the internal event to the line's."""


def call(handler: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Function:
    """A function with arguments of these types."""
    return Function(msgspec.msgpack.Decoder(tuple[arguments]), handler)  # type: ignore[valid-type]


def opened(handler: Callable[[GuestCalls, int, Any], None], init: Any) -> Function:
    """A constructor of a stream: gets the handle and the argument; nobody waits for it."""

    async def open_(guest: GuestCalls, handle: int, argument: Any) -> None:
        handler(guest, handle, argument)

    return Function(msgspec.msgpack.Decoder(tuple[int, init]), open_)


def next_of(event: Callable[[Any], Any]) -> Function:
    """The ``next`` of a stream."""

    async def unused(_guest: GuestCalls, _handle: int) -> None:
        raise AssertionError("events are taken from the stream")

    return Function(msgspec.msgpack.Decoder(tuple[int]), unused, event)


def named(line: str, interfaces: dict[str, dict[str, Function]]) -> dict[str, Function]:
    """Full names from interface -> function -> description."""
    return {
        f"{interface_name(line, interface)}#{name}": function
        for interface, functions in interfaces.items()
        for name, function in functions.items()
    }
