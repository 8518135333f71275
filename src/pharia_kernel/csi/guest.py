"""The system calls of one guest: from the name and arguments in a frame to the CSI and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from pharia_kernel.csi.api import Csi, ToolEvent
from pharia_kernel.csi.lines import FUNCTIONS
from pharia_kernel.csi.streams import ReadAhead
from pharia_kernel.csi.types import CallContext
from pharia_kernel.errors import CsiUseFromMetadata, InvalidCsiCall

_encode = msgspec.msgpack.Encoder().encode
_handle = msgspec.msgpack.Decoder(tuple[int])


class GuestCalls:
    """What the functions of the WIT lines (``csi.lines``) work with, and how an engine reaches
    them."""

    def __init__(
        self,
        csi: Csi,
        context: CallContext,
        *,
        on_tool_event: Callable[[ToolEvent], None] | None = None,
        metadata: bool = False,
    ) -> None:
        """``metadata``: the guest may not use the CSI at all."""
        self.csi = csi
        self.context = context
        self.on_tool_event = on_tool_event
        self._metadata = metadata
        self._streams: dict[int, ReadAhead[Any]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def namespace(self) -> str:
        """The namespace whose tools the guest sees."""
        return self.context.namespace or ""

    def open_stream(self, handle: int, source: AsyncGenerator[Any, None]) -> None:
        self._streams[handle] = ReadAhead(source)

    async def call(self, function: str, args: bytes) -> bytes:
        """See ``engine.api.Host.call``."""
        if self._metadata:
            raise CsiUseFromMetadata(
                f"The skill called `{function}` while it was asked for its metadata, which must "
                "not use the CSI."
            )
        name = function.rpartition("#")[2]
        if name.startswith("[drop]"):
            return self._drop(args)
        found = FUNCTIONS.get(function)
        if found is None:
            raise InvalidCsiCall(f"The kernel has no function `{function}`.")
        if found.event is not None:
            return await self._next(found.event, args)
        try:
            arguments = found.arguments.decode(args)
        except msgspec.ValidationError as error:
            raise InvalidCsiCall(
                f"`{function}` was called with invalid arguments: {error}."
            ) from error
        return _encode(await found.call(self, *arguments))

    async def _next(self, convert: Callable[[Any], Any], args: bytes) -> bytes:
        stream = self._streams.get(_handle.decode(args)[0])
        if stream is None:
            raise InvalidCsiCall("The skill used a stream that is not open.")
        return _encode([convert(event) for event in await stream.take()])

    def _drop(self, args: bytes) -> bytes:
        stream = self._streams.pop(_handle.decode(args)[0], None)
        if stream:
            task = asyncio.create_task(stream.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return b"\xc0"

    async def close(self) -> None:
        """Close the streams that the guest left open."""
        streams, self._streams = self._streams, {}
        await asyncio.gather(*(stream.close() for stream in streams.values()), *self._closing)
