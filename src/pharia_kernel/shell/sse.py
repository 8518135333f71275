"""Server-sent events: ``event: NAME``, one line of ``data``, an empty line.

Published clients insist on exactly these two lines, so there are no ids, and no comments unless a
client asks for them (``csi.preferences``).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from pharia_kernel.skills.types import MessageEnd, StreamEvent, sse_event_name

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    # Reverse proxies that buffer answers would hold the events back.
    (b"x-accel-buffering", b"no"),
]

_encoder = msgspec.json.Encoder()


def frame(event: StreamEvent) -> bytes:
    if isinstance(event, MessageEnd):
        # The payload is the skill's own text: line breaks in it would end the `data` line.
        event = MessageEnd(Raw(msgspec.json.format(event.payload, indent=-1)))
    return named_frame(sse_event_name(event), event)


def error_frame(problem: dict[str, Any]) -> bytes:
    """The last event of a failed stream: the members of its problem object beside ``message``."""
    return named_frame("error", {"message": problem["detail"], **problem})


def named_frame(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encoder.encode(data))
