"""W3C trace context of a request (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.types import Scope

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


def trace_headers(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """``traceparent`` and ``tracestate`` to hand on; empty if the request has no valid ones."""
    parent = headers.get(b"traceparent")
    if parent is None or not parent.isascii() or not _TRACEPARENT.fullmatch(parent):
        return {}
    context = {"traceparent": parent.decode()}
    state = headers.get(b"tracestate", b"")
    if state and state.isascii() and state.decode().isprintable():
        context["tracestate"] = state.decode()
    return context


def trace_id(scope: Scope) -> str | None:
    """The id by which the caller finds this request in the traces, 32 hex digits."""
    parent = dict(scope["headers"]).get(b"traceparent", b"")
    match = _TRACEPARENT.fullmatch(parent)
    return match[1].decode() if match else None
