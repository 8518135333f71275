import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharia_kernel.config.describe import toml_value
from pharia_kernel.config.problems import Location
from pharia_kernel.skills.namespaces.positions import MAX_KEY_PARTS, Positions, overlong_key

TRICKY = '''\
# comment with "quotes [
skills = [ {name = "a", tag="x"}, # "[
  "b",
  {"na me".'x' = 1.5, t = 1979-05-27 07:32:00.5Z},
]
a.b . c = """ " "" [ \\""" x"""""
x = \'\'\' ' '' ]\'\'\'\'
empty = """"""
[[servers]]
name="q"
[[servers.sub]]
k=[[1,2],["a",[{z=1}]]]
[servers.sub.deep]
u=-inf
"\\u00e4" = +1e-5
[[servers]]
[ other . "t.u" ]
v = {}
w=[]
[[servers.sub]]
'''


def locations(value: Any, location: Location = ()) -> set[Location]:
    found = {location}
    if isinstance(value, dict):
        for key, item in value.items():
            found |= locations(item, (*location, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found |= locations(item, (*location, index))
    return found


def test_everything_in_a_document_has_a_position() -> None:
    assert Positions(TRICKY).locations() == locations(tomllib.loads(TRICKY)) - {()}


keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"))
values = st.recursive(
    st.integers() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(keys, values, max_size=5))
def test_so_it_is_in_any_document(document: dict[str, Any]) -> None:
    text = "".join(f"{toml_value({k: v})[2:-2]}\n" for k, v in document.items())
    assert Positions(text).locations() == locations(tomllib.loads(text)) - {()}


@pytest.mark.parametrize(
    ("location", "line", "column"),
    [
        (("skills",), 2, 1),
        (("skills", 0), 2, 12),
        (("skills", 0, "tag"), 2, 25),
        (("skills", 1), 3, 3),
        (("skills", 2, "t"), 4, 23),
        (("skills", 2, "missing"), 4, 3),
        (("a", "b", "c"), 6, 7),
        (("servers", 0, "sub", 0, "k", 1, 1, 0, "z"), 12, 17),
        (("servers", 0, "sub", 0, "deep", "u"), 14, 1),
        (("servers", 1), 16, 1),
        (("nowhere", 3), 1, 1),
    ],
)
def test_positions(location: Location, line: int, column: int) -> None:
    assert Positions(TRICKY)[location] == (line, column)


@pytest.mark.parametrize("template", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}"])
def test_keys_that_would_take_all_memory(template: str) -> None:
    assert overlong_key(template.format("a." * MAX_KEY_PARTS + "a"))
    assert overlong_key(template.format("a . 'b'. " * MAX_KEY_PARTS + "a"))
    assert overlong_key(template.format("a." * (MAX_KEY_PARTS - 1) + "a")) is None


@pytest.mark.parametrize(
    "text",
    [
        TRICKY,
        f'a = "{"b." * 99}"',
        f"# {'b.' * 99}",
        "a = [" + "1.5, " * 99 + "]",
        '"""' + '\\"' * 99,
    ],
)
def test_dots_elsewhere_do_no_harm(text: str) -> None:
    assert overlong_key(text) is None
