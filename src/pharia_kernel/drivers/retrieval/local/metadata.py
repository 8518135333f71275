"""The metadata of documents as it is put beside their vectors, for filters to work on.

Filters run in Qdrant. What its versions and its embedded mode treat differently is made the same
here: dates are written in one format, in a copy of the metadata that holds only them, and numbers
are ones that 64 bits can hold.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

_RFC_3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)


def payload(metadata: Any) -> dict[str, Any]:
    """``metadata`` is decoded JSON."""
    return {"metadata": _storable(metadata), "dates": _dates(metadata)}


def parse_date(text: str) -> datetime | None:
    """The RFC 3339 date in UTC, cut to microseconds; none if it is not one."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    day, time, fraction, offset = match.groups()
    fraction = (fraction or "")[:7]
    offset = "+00:00" if offset in "Zz" else offset
    try:
        return datetime.fromisoformat(
            f"{day}T{time}{fraction:0<{7 if fraction else 0}}{offset}"
        ).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _storable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _storable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_storable(element) for element in value]
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        return float(value)
    return value


def _dates(value: Any) -> Any:
    """The same structure with nothing but the dates in it; none if there are none.

    Elements keep their positions in arrays.
    """
    if isinstance(value, str):
        date = parse_date(value)
        return None if date is None else date.isoformat()
    if isinstance(value, dict):
        members = {key: _dates(member) for key, member in value.items()}
        return {key: dates for key, dates in members.items() if dates is not None} or None
    if isinstance(value, list):
        elements = [_dates(element) for element in value]
        return elements if any(dates is not None for dates in elements) else None
    return None
