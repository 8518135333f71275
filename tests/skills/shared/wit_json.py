"""Values of a WIT line as the JSON of the kernel's own HTTP interface, and back.

A value is converted as the generated types declare it, so this serves every line.
"""

import json
import math
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType
from typing import Any, Union, get_args, get_origin

from componentize_py_types import Err, Ok

Json = Any

_PAYLOADS = {
    "end": "finish_reason",
    "message_begin": "role",
    "message_end": "finish_reason",
    "reasoning": "content",
    "tool_call": "tool_calls",
    "usage": "usage",
}
"""Member that holds the payload of an event which is no record."""


def from_json(type_: Any, value: Json) -> Any:
    if type_ is bytes:
        return json.dumps(value).encode()
    if get_origin(type_) is Union:
        return _alternative(get_args(type_), value)
    if get_origin(type_) is list:
        return [from_json(*get_args(type_), item) for item in value]
    if is_dataclass(type_):
        return type_(*(from_json(f.type, value.get(f.name)) for f in fields(type_)))
    if issubclass(type_, Enum):
        return type_[value.upper()]
    return value


def _alternative(types: tuple[Any, ...], value: Json) -> Any:
    """An option or a variant, whose cases are `"name"` or `{"name": payload}`."""
    if value is None and NoneType in types:
        return None
    cases = [case for case in types if case is not NoneType]
    if len(cases) == 1:
        return from_json(cases[0], value)
    name, payload = (value, None) if isinstance(value, str) else next(iter(value.items()))
    case = next(case for case in cases if case_name(case) == name)
    return case(*(from_json(f.type, payload) for f in fields(case)))


def case_name(case: Any) -> str:
    """`SearchFilter_WithAll` is `with_all`; keywords of Python have a `_` at the end."""
    name = case.__name__.partition("_")[2].strip("_")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def to_json(value: Any) -> Json:
    match value:
        case Enum():
            return value.name.lower()
        case list():
            return [to_json(item) for item in value]
        case bytes():
            return json.loads(value)
        case float() if math.isnan(value):
            return None
        case Ok():
            return [{"type": "text", "text": part.value} for part in value.value]
        case Err():
            return value.value
        case _ if "_" in type(value).__name__:
            return _modality(case_name(type(value)), value)
        case _ if is_dataclass(value):
            return {f.name: _member(f.name, getattr(value, f.name)) for f in fields(value)}
    return value


def _member(name: str, value: Any) -> Json:
    """A token may be a part of a character; all other bytes are JSON."""
    return list(value) if name == "token" else to_json(value)


def _modality(name: str, value: Any) -> Json:
    return {"modality": name} | ({"text": value.value} if name == "text" else {})


def event(value: Any) -> Json:
    """As name and data of a server-sent event."""
    name = case_name(type(value))
    data = to_json(value.value)
    return [name, {_PAYLOADS[name]: data} if name in _PAYLOADS else data]
