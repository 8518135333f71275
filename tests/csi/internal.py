"""Random values of the internal model, from its declarations."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect

from pharia_kernel.csi import types
from tests.csi.wit_types import texts

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
).map(lambda value: msgspec.Raw(msgspec.json.encode(value)))

TOKEN_COUNTS = st.builds(types.Usage, st.integers(-(2**40), 2**40), st.integers(-(2**40), 2**40))
"""What backends say of tokens is not checked by anybody."""


def model(type_: Any, *, tools: bool) -> SearchStrategy[Any]:
    """Values that a driver may return.

    ``tools``: to callers that can offer tools, and hear of reasoning apart from content.
    """
    return _of(inspect.type_info(type_), tools)


def _of(info: inspect.Type, tools: bool) -> SearchStrategy[Any]:
    match info:
        case inspect.StructType(cls=types.Usage):
            return TOKEN_COUNTS
        case inspect.StructType():
            return st.builds(info.cls, **{f.name: _of(f.type, tools) for f in info.fields})
        case inspect.UnionType():
            return st.one_of(
                [_of(m, tools) for m in info.types if tools or _cls(m) not in _WITH_TOOLS]
            )
        case inspect.ListType():
            return st.lists(_of(info.item_type, tools), max_size=3)
        case inspect.EnumType():
            return st.sampled_from([c for c in info.cls if tools or c not in _WITH_TOOLS])
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(0, 2**32 - 1)
        case inspect.FloatType():
            return st.floats()
        case inspect.StrType():
            return texts
        case inspect.BytesType():
            return st.binary(max_size=8)
        case inspect.RawType():
            return _JSON
    raise AssertionError(f"the model has no {info}")


_WITH_TOOLS: tuple[Any, ...] = (
    types.FinishReason.TOOL_CALLS,
    types.ToolCallDelta,
    types.Reasoning,
)


def _cls(info: inspect.Type) -> Any:
    return getattr(info, "cls", None)
