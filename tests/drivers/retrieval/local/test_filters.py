"""Filters in Qdrant select what a plain evaluation of the contract selects."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import qdrant_edge as edge
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from pharia_kernel.csi.types import FilterItem, MetadataCondition, SearchFilter
from pharia_kernel.drivers.retrieval.local.filters import compile_filters
from pharia_kernel.drivers.retrieval.local.metadata import parse_date, payload
from pharia_kernel.errors import InvalidCsiRequest

# --- the contract, evaluated plainly --------------------------------------------------------------


def selects(filters: list[SearchFilter], metadata: Any) -> bool:
    return all(_selects(each, metadata) for each in filters)


def _selects(given: SearchFilter, metadata: Any) -> bool:
    if given.without is not None:
        return not any(_holds(item.metadata, metadata) for item in given.without)
    if given.with_one_of is not None:
        return any(_holds(item.metadata, metadata) for item in given.with_one_of)
    return all(_holds(item.metadata, metadata) for item in given.with_ or [])


def _holds(condition: MetadataCondition, metadata: Any) -> bool:
    values = _values(metadata, re.findall(r"[\w-]+(?=[.\[]|$)|\[\d*\]", condition.field))
    elements = [e for value in values for e in (value if isinstance(value, list) else [value])]
    return any(_fits(condition, element) for element in elements)


def _values(value: Any, steps: list[str]) -> list[Any]:
    if not steps:
        return [value]
    step, rest = steps[0], steps[1:]
    if step == "[]":
        return [v for e in value for v in _values(e, rest)] if isinstance(value, list) else []
    if step.startswith("["):
        number = int(step[1:-1])
        found = isinstance(value, list) and number < len(value)
        return _values(value[number], rest) if found else []
    return _values(value[step], rest) if isinstance(value, dict) and step in value else []


def _fits(c: MetadataCondition, value: Any) -> bool:
    if c.is_null is not None:
        return value is None
    if c.equal_to is not None:
        return type(value) is type(c.equal_to) and bool(value == c.equal_to)
    bounds = (c.greater_than, c.greater_than_or_equal_to, c.less_than, c.less_than_or_equal_to)
    if any(bound is not None for bound in bounds):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and _in_order(value, *bounds)
    dates = [_utc(text) for text in (c.after, c.at_or_after, c.before, c.at_or_before)]
    date = _utc(value) if isinstance(value, str) else None
    return date is not None and _in_order(date, *dates)


def _in_order(value: Any, gt: Any, gte: Any, lt: Any, lte: Any) -> bool:
    return (
        (gt is None or value > gt)
        and (gte is None or value >= gte)
        and (lt is None or value < lt)
        and (lte is None or value <= lte)
    )


def _utc(text: str | None) -> datetime | None:
    if text is None or "T" not in text:
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return date if date.tzinfo else None


# --- random metadata and filters ------------------------------------------------------------------

_KEYS = st.sampled_from(["a", "b", "c-1", "d_2"])
_DATES = st.sampled_from(
    [
        "2024-01-01T00:00:00Z",
        "2024-01-01T01:00:00+01:00",
        "2024-01-01T00:00:00.5Z",
        "2023-12-31T23:59:59.999999Z",
        "1969-07-20T20:17:40-05:00",
        "9999-12-31T00:00:00Z",
    ]
)
_NEARLY_DATES = st.sampled_from(["2024-01-01", "2024-01-01T00:00:00", "2024-13-01T00:00:00Z", ""])
_INTEGERS = st.one_of(st.integers(-2, 2), st.sampled_from([-(2**63), 2**63 - 1]))
_NUMBERS = st.one_of(_INTEGERS, st.sampled_from([-1.5, 0.0, -0.0, 1.0, 1.5, 1e308]))
_LEAVES = st.one_of(
    st.none(), st.booleans(), _NUMBERS, _DATES, _NEARLY_DATES, st.sampled_from(["x", "ä", "X"])
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)
_METADATA = st.dictionaries(_KEYS, _VALUES, max_size=4) | _VALUES
_STEPS = st.tuples(_KEYS, st.sampled_from(["", "", "[]", "[0]", "[1]", "[][]", "[0][]"]))
_FIELDS = st.lists(_STEPS.map("".join), min_size=1, max_size=3).map(".".join)
_SMALL = st.sampled_from([-1.5, -1, 0, 0.0, 1, 1.5, 2])


def _conditions() -> st.SearchStrategy[MetadataCondition]:
    ranges = ["greater_than", "greater_than_or_equal_to", "less_than", "less_than_or_equal_to"]
    one_of = [
        *(st.fixed_dictionaries({name: _SMALL}) for name in ranges),
        *(
            st.fixed_dictionaries({name: _DATES})
            for name in ("after", "at_or_after", "before", "at_or_before")
        ),
        st.fixed_dictionaries(
            {
                "equal_to": st.one_of(
                    _INTEGERS, st.booleans(), st.sampled_from(["x", "ä", ""]), _DATES
                )
            }
        ),
        st.just({"is_null": True}),
    ]
    return st.builds(
        lambda field, condition: MetadataCondition(field=field, **condition),
        _FIELDS,
        st.one_of(one_of),
    )


_ITEMS = st.lists(st.builds(FilterItem, _conditions()), max_size=3)
_FILTERS = st.lists(
    st.one_of(
        st.builds(lambda items: SearchFilter(without=items), _ITEMS),
        st.builds(lambda items: SearchFilter(with_one_of=items), _ITEMS),
        st.builds(lambda items: SearchFilter(with_=items), _ITEMS),
    ),
    max_size=3,
)


def _one(**condition: Any) -> list[SearchFilter]:
    return [SearchFilter(with_=[FilterItem(MetadataCondition(**condition))])]


def _same(test: Callable[..., None]) -> Callable[..., None]:
    """Try random documents and filters, and these."""
    for documents, filters in (
        ([{"a": 1.0}, {"a": 1}, {"a": True}], _one(field="a", equal_to=1)),
        ([{"a": [{"b": 1}, {"b": 2}]}], _one(field="a[1].b", equal_to=2)),
        ([{"a": [{"b": 1}, {"b": 2}]}], _one(field="a.b", equal_to=2)),
        ([{"a": [{"b": 1}, {"b": 2}]}], _one(field="a[].b", equal_to=2)),
        ([{"a": [None]}, {"a": None}, {}], _one(field="a", is_null=True)),
        ([{"a": "2024-01-01T01:00:00+01:00"}], _one(field="a", at_or_after="2024-01-01T00:00:00Z")),
        ([{"a": 2**63}, {"a": 2**63 - 1}], _one(field="a", greater_than=1)),
        ([{"a": 1}], [SearchFilter(with_one_of=[])]),
    ):
        test = example(documents=documents, filters=filters)(test)
    random = given(documents=st.lists(_METADATA, min_size=1, max_size=8), filters=_FILTERS)
    return settings(deadline=None)(random(test))


@_same
def test_embedded_qdrant_selects_the_same(
    documents: list[Any], filters: list[SearchFilter]
) -> None:
    client = QdrantClient(":memory:")
    client.create_collection(
        "x", vectors_config=models.VectorParams(size=1, distance=models.Distance.COSINE)
    )
    points = [
        models.PointStruct(id=i, vector=[1.0], payload=payload(metadata))
        for i, metadata in enumerate(documents)
    ]
    client.upsert("x", points)
    found = client.query_points(
        "x", query=[1.0], query_filter=compile_filters(filters), limit=len(documents)
    )
    assert {int(point.id) for point in found.points} == _expected(documents, filters)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[edge.EdgeShard]:
    """The storage engine of Qdrant's server, in this process."""
    params = edge.EdgeVectorParams(size=1, distance=edge.Distance.Cosine)
    config = edge.EdgeConfig(vectors={"": params})
    shard = edge.EdgeShard.create(str(tmp_path_factory.mktemp("shard")), config)
    yield shard
    shard.close()


_used_ids = itertools.count(step=100)


@_same
def test_the_engine_of_qdrants_server_selects_the_same(
    shard: edge.EdgeShard, documents: list[Any], filters: list[SearchFilter]
) -> None:
    first = next(_used_ids)
    points = [
        edge.Point(first + i, {"": [1.0]}, payload(metadata))
        for i, metadata in enumerate(documents)
    ]
    shard.update(edge.UpdateOperation.upsert_points(points))
    compiled = compile_filters(filters)
    of_this_example = edge.HasIdCondition({first + i for i in range(len(documents))})
    conditions = [of_this_example, *([_to_edge(compiled)] if compiled else [])]
    request = edge.ScrollRequest(limit=len(documents), filter=edge.Filter(must=conditions))
    found, _ = shard.scroll(request)
    assert {int(point.id) - first for point in found} == _expected(documents, filters)


def _to_edge(condition: Any) -> Any:
    """The same condition as an object of the engine's binding."""
    match condition:
        case models.Filter():
            clauses: Any = (condition.must, condition.should, condition.must_not)
            must, should, must_not = (
                None if clause is None else [_to_edge(each) for each in clause]
                for clause in clauses
            )
            return edge.Filter(must, should, must_not)
        case models.HasIdCondition():
            return edge.HasIdCondition(set(condition.has_id))
        case models.FieldCondition(match=models.MatchValue(value=value)):
            return edge.FieldCondition(condition.key, match=edge.MatchValue(value))
        case models.FieldCondition(range=models.Range() as bounds):
            numbers = edge.RangeFloat(**bounds.model_dump())
            return edge.FieldCondition(condition.key, range=numbers)
        case models.FieldCondition(range=models.DatetimeRange() as bounds):
            dates = edge.RangeDateTime(**bounds.model_dump(mode="json"))
            return edge.FieldCondition(condition.key, range=dates)
        case models.FieldCondition(is_null=True):
            return edge.FieldCondition(condition.key, is_null=True)
    raise AssertionError(condition)


def _expected(documents: list[Any], filters: list[SearchFilter]) -> set[int]:
    return {i for i, metadata in enumerate(documents) if selects(filters, metadata)}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a b", 'a"b', "[0]", "ä", "a" * 1001],
)
def test_wrong_field(field: str) -> None:
    with pytest.raises(InvalidCsiRequest, match="not a metadata field"):
        compile_filters(_one(field=field, equal_to=1))


@pytest.mark.parametrize(
    "text", ["2023-01-01T12:00:00", "2023-01-01", "yesterday", "2023-02-30T00:00:00Z", "٢٠٢٣"]
)
def test_wrong_date(text: str) -> None:
    with pytest.raises(InvalidCsiRequest, match="RFC 3339"):
        compile_filters(_one(field="a", after=text))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_wrong_number(number: float) -> None:
    with pytest.raises(InvalidCsiRequest, match="finite"):
        compile_filters(_one(field="a", less_than=number))


def test_integer_beyond_64_bits() -> None:
    with pytest.raises(InvalidCsiRequest, match="64 bits"):
        compile_filters(_one(field="a", equal_to=2**63))


# --- dates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-01-01t00:00:00z", "2024-01-01T00:00:00+00:00"),
        ("2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00.123456+00:00"),
        ("2024-01-01T00:00:00.5-01:30", "2024-01-01T01:30:00.500000+00:00"),
    ],
)
def test_dates_are_rfc_3339(text: str, same: str) -> None:
    date = parse_date(text)
    assert date is not None
    assert date.isoformat() == same


def test_a_date_outside_of_the_calendar_is_none() -> None:
    assert parse_date("0001-01-01T00:00:00+01:00") is None


def test_dates_keep_their_places() -> None:
    metadata = {"a": [1, "2024-01-01T00:00:00Z"], "b": {"c": 1}}
    assert payload(metadata)["dates"] == {"a": [None, "2024-01-01T00:00:00+00:00"]}
