"""Incremental parser of server-sent events (WHATWG HTML, "Parsing an event stream")."""

from __future__ import annotations

from typing import NamedTuple

from pharia_kernel.errors import BadUpstreamAnswer

MAX_EVENT_BYTES = 16 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    data: bytes
    """Lines of the ``data`` fields, joined by line feeds."""
    name: bytes = b"message"


class SseParser:
    """Feed it the body as it arrives, cut anywhere; it gives back the events that became complete.

    ``id`` and ``retry`` fields and comments are skipped. Raises ``BadUpstreamAnswer`` when a single
    event is larger than ``max_event_bytes``.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._tail = bytearray()
        self._ended_with_cr = False
        self._first_line = True
        self._name = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        if self._ended_with_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._ended_with_cr = False
        if not piece:
            return []
        self._ended_with_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = piece.split(b"\n")
        if lines and self._tail:
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        self._tail += rest
        events = [event for line in lines if (event := self._line(line)) is not None]
        self._check_size()
        return events

    def finish(self) -> list[ServerSentEvent]:
        """The body is over. A last event without its blank line counts too."""
        return self.feed(b"\n\n")

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value)
        elif field == b"event":
            self._name = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        name, data = self._name, self._data
        self._name, self._data, self._data_bytes = b"", [], 0
        if not data:
            return None
        return ServerSentEvent(data[0] if len(data) == 1 else b"\n".join(data), name or b"message")

    def _check_size(self) -> None:
        if self._data_bytes + len(self._tail) > self._max_event_bytes:
            raise BadUpstreamAnswer(
                f"The inference backend sent an event of more than {self._max_event_bytes} bytes."
            )
