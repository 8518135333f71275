"""Requests as people read them in a failure."""

from __future__ import annotations

import base64
import dataclasses
import json
from enum import Enum
from typing import Any

_MOST = 2000
"""Characters of a request in a failure; the rest is rarely why."""


def plain(value: Any) -> Any:
    """JSON of a request; what is None, as most parameters are, is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: plain(field) for name, field in fields.items() if field is not None}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def shown(request: Any, *, ascii_only: bool = False) -> str:
    return json.dumps(plain(request), ensure_ascii=ascii_only, indent=2)


def excerpt(request: Any) -> str:
    """The request, indented, and cut if it is very long."""
    text = shown(request)
    if len(text) > _MOST:
        text = f"{text[:_MOST]}\n[... {len(text) - _MOST} more characters]"
    return "\n".join(f"  {line}" for line in text.splitlines())
