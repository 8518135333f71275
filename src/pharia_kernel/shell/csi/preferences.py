"""What clients of ``/csi/v2`` may ask for with the header ``Prefer`` (RFC 7240).

``keep-alive=SECONDS`` has comments sent in a stream that is silent for so long: proxies cut idle
connections, but published clients of ``/csi/v1`` take a comment for an error. ``item-errors`` has a
batch answered with one object per request, ``{"ok": ...}`` or ``{"error": problem}``, instead of
failing as a whole. Preferences that are unknown or make no sense are ignored, as the RFC wants it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

KEEP_ALIVE = 15
"""Seconds, if the client does not say."""
_LONGEST_KEEP_ALIVE = 3600


class Preferences(Struct, frozen=True):
    keep_alive: int | None = None
    """Seconds of silence after which a comment is sent, at least 1."""
    item_errors: bool = False


def preferences(headers: Iterable[tuple[bytes, bytes]]) -> Preferences:
    """``headers`` with lower-case names. The first of several equal preferences counts."""
    asked: dict[str, str] = {}
    for name, value in headers:
        if name == b"prefer":
            for preference in value.decode("latin-1").split(","):
                token, _, word = preference.partition(";")[0].partition("=")
                asked.setdefault(token.strip().lower(), word.strip().strip('"'))
    return Preferences(_keep_alive(asked.get("keep-alive")), "item-errors" in asked)


def _keep_alive(seconds: str | None) -> int | None:
    if seconds is None:
        return None
    if not seconds:
        return KEEP_ALIVE
    digits = seconds.isascii() and seconds.isdecimal() and len(seconds) < 10
    return int(seconds) if digits and 1 <= int(seconds) <= _LONGEST_KEEP_ALIVE else None
