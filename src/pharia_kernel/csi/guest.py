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
_NIL = _encode(None)


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
        """Begin to read; raises ``InvalidCsiCall`` if the handle is in use."""
        if handle in self._streams:
            raise InvalidCsiCall(f"The skill opened the stream {handle} twice.")
        self._streams[handle] = ReadAhead(source)

    async def next_events(self, handle: int) -> list[Any]:
        """What has come from the stream, at least one event; empty at its end. Raises
        ``InvalidCsiCall`` if it is not open."""
        stream = self._streams.get(handle)
        if stream is None:
            raise InvalidCsiCall(f"The skill used the stream {handle}, which is not open.")
        return await stream.take()

    async def call(self, function: str, args: bytes) -> bytes:
        """See ``engine.api.Host.call``."""
        if self._metadata:
            raise CsiUseFromMetadata(
                f"The skill called `{function}` while it was asked for its metadata, which must "
                "not use the CSI."
            )
        if function.rpartition("#")[2].startswith("[drop]"):
            (handle,) = _decoded(_handle, function, args)
            self._drop(handle)
            return _NIL
        found = FUNCTIONS.get(function)
        if found is None:
            raise InvalidCsiCall(f"The kernel has no function `{function[:200]}`.")
        return _encode(await found.call(self, *_decoded(found.arguments, function, args)))

    def _drop(self, handle: int) -> None:
        """Close in the background: the guest does not wait for it."""
        stream = self._streams.pop(handle, None)
        if stream:
            task = asyncio.create_task(stream.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close the streams that the guest left open."""
        if not self._streams and not self._closing:
            return
        streams, self._streams = self._streams, {}
        await asyncio.gather(*(stream.close() for stream in streams.values()), *self._closing)


def _decoded(decoder: msgspec.msgpack.Decoder[Any], function: str, args: bytes) -> Any:
    """The arguments; an engine is not trusted to send what the function takes."""
    try:
        return decoder.decode(args)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidCsiCall(f"`{function}` was called with invalid arguments: {error}.") from error
