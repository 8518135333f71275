"""Search filters in the terms of Qdrant.

A path that ends at an array stands for its elements. Values are compared within their own kind
only: an integer equals integers, not booleans or fractions.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

import msgspec
from qdrant_client import models

from pharia_kernel.csi.types import FilterItem, MetadataCondition, SearchFilter
from pharia_kernel.drivers.retrieval.local.metadata import INT64_MAX, INT64_MIN, parse_date
from pharia_kernel.errors import InvalidCsiRequest

_MAX_FIELD_LENGTH = 1000
_KEY = r"[A-Za-z0-9_-]+(?:\[[0-9]{0,9}\])*"
_FIELD = re.compile(rf"{_KEY}(?:\.{_KEY})*")

_RANGES = {
    "greater_than": "gt",
    "greater_than_or_equal_to": "gte",
    "less_than": "lt",
    "less_than_or_equal_to": "lte",
}
_DATE_RANGES = {"after": "gt", "at_or_after": "gte", "before": "lt", "at_or_before": "lte"}

_NOTHING = models.HasIdCondition(has_id=[])


def compile_filters(filters: list[SearchFilter]) -> models.Filter | None:
    """One filter for all of them; none if there are none. Raises ``InvalidCsiRequest``."""
    if not filters:
        return None
    return models.Filter(must=[_compile(each) for each in filters])


def _compile(given: SearchFilter) -> models.Filter:
    if given.without is not None:
        return models.Filter(must_not=_conditions(given.without))
    if given.with_one_of is not None:
        # Qdrant takes an empty list for no demand at all.
        return models.Filter(should=_conditions(given.with_one_of) or [_NOTHING])
    return models.Filter(must=_conditions(given.with_ or []))


def _conditions(items: list[FilterItem]) -> list[models.Condition]:
    return [_condition(item.metadata) for item in items]


def _condition(given: MetadataCondition) -> models.FieldCondition:
    field = _checked_field(given.field)
    name, operand = _operator(given)
    key = f"metadata.{field}"
    if name in _RANGES:
        return models.FieldCondition(
            key=key, range=models.Range(**{_RANGES[name]: _number(operand, field, name)})
        )
    if name in _DATE_RANGES:
        date_range = models.DatetimeRange(**{_DATE_RANGES[name]: _date(operand, field, name)})
        return models.FieldCondition(key=f"dates.{field}", range=date_range)
    if name == "equal_to":
        match = models.MatchValue(value=_value(operand, field))
        return models.FieldCondition(key=key, match=match)
    return models.FieldCondition(key=key, is_null=True)


def _operator(given: MetadataCondition) -> tuple[str, Any]:
    """The name of the one condition that is set, and what is compared with."""
    members = msgspec.structs.asdict(given)
    del members["field"]
    return next((name, operand) for name, operand in members.items() if operand is not None)


def _checked_field(field: str) -> str:
    if len(field) > _MAX_FIELD_LENGTH or not _FIELD.fullmatch(field):
        raise InvalidCsiRequest(
            f"`{field[:100]}` is not a metadata field: it must be a path such as `a.b`, `a[].b` or "
            f"`a[1].b`, of letters, digits, `-` and `_`, and at most {_MAX_FIELD_LENGTH} long."
        )
    return field


def _number(operand: float, field: str, name: str) -> float:
    try:
        number = float(operand)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidCsiRequest(f"`{name}` of the filter on `{field}` must be a finite number.")
    return number


def _date(operand: str, field: str, name: str) -> datetime:
    date = parse_date(operand)
    if date is None:
        raise InvalidCsiRequest(
            f"`{name}` of the filter on `{field}` must be an RFC 3339 date with time and offset, "
            f"such as `2024-12-31T23:59:59Z`, but is `{operand[:100]}`."
        )
    return date


def _value(operand: str | bool | int, field: str) -> str | bool | int:
    if isinstance(operand, int) and not INT64_MIN <= operand <= INT64_MAX:
        raise InvalidCsiRequest(
            f"`equal_to` of the filter on `{field}` must be an integer of 64 bits."
        )
    return operand
