"""What input is accepted, how errors name their place, and what schemas say."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar

import jsonschema_rs
import pydantic
import pytest

from pharia_kernel_sdk import Field, Message, Role
from pharia_kernel_sdk.shapes import ShapeError, UnsupportedTypeError, json_schema, shape_of

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    ONE = 1


class Size(TypedDict):
    """How large."""

    width: int
    height: NotRequired[float]


@dataclass
class Node:
    name: str
    children: list[Node] = field(default_factory=list)


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: int | None = None


@dataclass
class Checked:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1)
    at: dt.date


@dataclass
class Holder:
    model: Model


Id = NewType("Id", str)
Short = Annotated[str, Field(max_length=3, pattern="^[a-z]+$")]
Level = Annotated[int, Field(ge=1, le=5, description="How much.")]

GOOD: list[tuple[Any, Any, Any]] = [
    (Any, {"a": [1]}, {"a": [1]}),
    (None, None, None),
    (bool, True, True),
    (int, 3, 3),
    (int, 3.0, 3),
    (float, 3, 3.0),
    (str, "x", "x"),
    (Id, "x", "x"),
    (dt.date, "2024-02-29", dt.date(2024, 2, 29)),
    (dt.datetime, "2024-02-29T10:00:00+00:00", dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC)),
    (
        uuid.UUID,
        "12345678123456781234567812345678",
        uuid.UUID(int=0x12345678123456781234567812345678),
    ),
    (Literal["a", 1], 1, 1),
    (Color, "red", Color.RED),
    (list[int], [1, 2], [1, 2]),
    (set[str], ["a", "a"], {"a"}),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[Color, int], {"red": 1}, {Color.RED: 1}),
    (int | str | None, None, None),
    (float | int, 1, 1),
    (Size, {"width": 1, "other": 2}, {"width": 1}),
    (Node, {"name": "a", "children": [{"name": "b"}]}, Node("a", [Node("b")])),
    (Page[int], {"items": [1]}, Page([1])),
    (Short, "abc", "abc"),
    (Level, 5, 5),
    (Message, {"role": "user", "content": "hi"}, Message.user("hi")),
    (Model, {"name": "x", "at": "2024-01-01"}, Model(name="x", at=dt.date(2024, 1, 1))),
    (
        Holder,
        {"model": {"name": "x", "at": "2024-01-01"}},
        Holder(Model(name="x", at=dt.date(2024, 1, 1))),
    ),
]


@pytest.mark.parametrize(("type_", "value", "expected"), GOOD, ids=str)
def test_values_are_loaded_dumped_and_fit_the_schema(type_: Any, value: Any, expected: Any) -> None:
    shape = shape_of(type_)
    loaded = shape.load_json(json.dumps(value).encode())
    assert loaded == expected
    assert type(loaded) is type(expected)
    dumped = json.loads(shape.dump_json(loaded))
    assert shape.load(dumped) == expected
    schema = json_schema(type_)
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.validator_for(schema)
    validator.validate(value)
    validator.validate(dumped)


BAD: list[tuple[Any, Any, str]] = [
    (bool, 1, "$: expected true or false, got the number 1"),
    (int, True, "$: expected an integer, got True"),
    (int, "1", "$: expected an integer, got the text '1'"),
    (int, 1.5, "$: expected an integer"),
    (float, None, "$: expected a number, got null"),
    (str, 1, "$: expected a text"),
    (dt.date, "yesterday", "$: expected a text of the format date"),
    (Literal[1], True, "$: expected one of 1"),
    (Color, "blue", "$: expected one of 'red', 1, got the text 'blue'"),
    (list[int], {"a": 1}, "$: expected a list, got object"),
    (list[int], [1, "a"], "$[1]: expected an integer"),
    (tuple[int, str], [1], "$: expected a list of 2 items"),
    (dict[str, int], {"a": "b"}, "$.a: expected an integer"),
    (int | list[str], [1], "$[0]: expected a text"),
    (int | str, [], "$: expected an integer or a text, got the list []"),
    (Size, {}, "$.width: expected an integer, got nothing"),
    (Node, {"name": "a", "children": [{}]}, "$.children[0].name: expected a text, got nothing"),
    (Page[int], {"items": ["a"]}, "$.items[0]: expected an integer"),
    (Checked, {"low": 2, "high": 1}, "(low is above high)"),
    (Short, "abcd", "at most 3 long, that matches ^[a-z]+$, got the text 'abcd'"),
    (Short, "AB", "got the text 'AB'"),
    (Level, 0, "$: expected an integer, at least 1, at most 5, got the number 0"),
    (Model, {"name": "", "at": "2024-01-01"}, "$.name: string should have at least 1 character"),
    (Holder, {"model": {"name": "x"}}, "$.model.at: field required"),
]


@pytest.mark.parametrize(("type_", "value", "said"), BAD, ids=str)
def test_errors_name_place_expectation_and_value(type_: Any, value: Any, said: str) -> None:
    with pytest.raises(ShapeError) as caught:
        shape_of(type_).load(value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [(str, 1), (Node, {"name": "a"}), (list[str], "abc"), (Color, "red"), (int, "1"), (Size, {})],
    ids=str,
)
def test_results_of_another_type_are_refused(type_: Any, value: Any) -> None:
    with pytest.raises(ShapeError):
        shape_of(type_).dump(value)


def test_long_values_are_cut_off_in_errors() -> None:
    with pytest.raises(ShapeError) as caught:
        shape_of(int).load("x" * 10_000)
    assert len(str(caught.value)) < 200


NO_TYPE = pytest.param(list[object()], id="of no type")  # type: ignore[misc]


@pytest.mark.parametrize("type_", [bytes, dict[int, str], complex, NO_TYPE], ids=str)
def test_types_without_json_are_refused(type_: Any) -> None:
    with pytest.raises(UnsupportedTypeError):
        json_schema(type_)


def test_a_refused_type_stays_refused() -> None:
    for _ in range(2):
        with pytest.raises(UnsupportedTypeError):
            shape_of(list[bytes])


def test_recursive_types_refer_to_themselves() -> None:
    schema = json_schema(Node)
    assert schema["$ref"] == "#/$defs/Node"
    assert schema["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


def test_types_of_the_same_name_are_kept_apart() -> None:
    def make(type_: Any) -> Any:
        @dataclass
        class Same:
            value: type_

        return Same

    @dataclass
    class Both:
        a: make(int)  # type: ignore[valid-type]
        b: make(str)  # type: ignore[valid-type]

    # The annotations of this module are texts, so these classes need theirs in place.
    Both.__annotations__ = {"a": make(int), "b": make(str)}
    for annotation, type_ in zip(Both.__annotations__.values(), (int, str), strict=True):
        annotation.__annotations__ = {"value": type_}
    kinds = [
        definition["properties"]["value"]["type"]
        for definition in json_schema(Both)["$defs"].values()
    ]
    assert sorted(kinds) == ["integer", "string"]


def test_descriptions_defaults_and_titles_are_in_the_schema() -> None:
    assert json_schema(Level) == {
        "type": "integer", "minimum": 1, "maximum": 5, "description": "How much.",
    }  # fmt: skip
    assert json_schema(Size)["description"] == "How large."
    assert json_schema(Page[int])["properties"]["next"]["default"] is None
    assert json_schema(Role) == {"enum": [role.value for role in Role], "type": "string"}
