"""Holds the declared shapes of every line against the types that real components import."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from msgspec import inspect

from pharia_kernel.csi import types
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.lines import FUNCTIONS
from pharia_kernel.engine import surface
from pharia_kernel.errors import InvalidCsiCall
from tests.csi import wit_types
from tests.csi.internal import model
from tests.csi.memory import CONTEXT, MemoryCsi, ask, read
from tests.csi.wit_types import Signature, all_declared, data_of, without_empty_payloads

packed = msgspec.msgpack.encode
unpacked = msgspec.msgpack.decode

quick = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))

CALLS = sorted(name for name in FUNCTIONS if "[" not in name)
CONSTRUCTORS = sorted(name for name in FUNCTIONS if "[constructor]" in name)
WITH_TOOLS = tuple(f"pharia:skill/inference@{line}." for line in ("0.4", "0.5"))
WITH_ARGUMENTS = sorted({*CALLS, *CONSTRUCTORS} - {n for n in CALLS if n.endswith("#list-tools")})

RESULTS: dict[str, Any] = {
    "chat": types.ChatResponse,
    "complete": types.Completion,
    "explain": list[types.TextScore],
    "chunk": list[types.Chunk],
    "search": list[types.SearchResult],
    "documents": types.Document,
    "document_metadata": msgspec.Raw | None,
    "invoke_tool": list[types.TextOutput] | str,
    "list_tools": list[types.Tool],
    "completion_stream": list[types.CompletionEvent],
    "chat_stream": list[types.ChatEvent],
}
"""What a driver may answer to one request."""


def arguments_of(data: DataObject, signature: Signature) -> list[Any]:
    return [data.draw(data_of(parameter)) for parameter in signature.parameters]


def handles(function: str) -> list[int]:
    """A constructor gets a handle before its argument."""
    return [1] if function in CONSTRUCTORS else []


@pytest.mark.parametrize("line", list(wit_types.SKILLS))
def test_functions_are_those_that_a_component_imports(line: str) -> None:
    version = f"@{surface.NEWEST[line]}#"
    declared = {name for name in wit_types.declared(line) if not name.endswith("output.write")}
    assert {name for name in FUNCTIONS if version in name} == declared


@pytest.mark.parametrize("line", list(wit_types.SKILLS))
def test_functions_are_those_that_an_engine_links(line: str) -> None:
    linked = {
        f"{surface.interface_name(line, interface)}#{name}": kind
        for interface, functions in surface.functions(line).items()
        for name, kind in functions.items()
    }
    version = f"@{surface.NEWEST[line]}#"
    assert {name for name in FUNCTIONS if version in name} == {
        name for name, kind in linked.items() if kind != "write"
    }


@pytest.mark.parametrize("function", WITH_ARGUMENTS)
def test_arguments_are_declared_as_in_the_component(function: str) -> None:
    declared = inspect.type_info(FUNCTIONS[function].arguments.type)
    assert isinstance(declared, inspect.TupleType)
    shapes = [shape(item) for item in declared.item_types[len(handles(function)) :]]
    assert shapes == [wit_types.shape(type_) for type_ in all_declared()[function].parameters]


def shape(info: inspect.Type) -> Any:
    """A declaration in the words of ``wit_types.shape``."""
    match info:
        case inspect.StructType(array_like=False):
            return {field.encode_name: shape(field.type) for field in info.fields if field.required}
        case inspect.StructType(tag=str()):
            return ("variant", {info.tag: [shape(field.type) for field in info.fields]})
        case inspect.LiteralType():
            return ("enum", sorted(map(str, info.values)))
        case inspect.ListType():
            return [shape(info.item_type)]
        case inspect.UnionType():
            return _union([shape(member) for member in info.types])
    return type(info)


def _union(shapes: list[Any]) -> Any:
    """An option, a variant, or an option of a variant."""
    some = [s for s in shapes if s is not inspect.NoneType]
    whole = some[0]
    if len(some) > 1:
        whole = ("variant", {case: payload for _, cases in some for case, payload in cases.items()})
    return whole if len(some) == len(shapes) else ("option", whole)


@pytest.mark.parametrize("function", WITH_ARGUMENTS)
@quick
@given(data=st.data())
def test_everything_in_the_arguments_is_read(function: str, data: DataObject) -> None:
    signature = all_declared()[function]
    sent = arguments_of(data, signature)
    read_ = FUNCTIONS[function].arguments.decode(packed([*handles(function), *sent]))
    expected = [
        without_empty_payloads(type_, value)
        for type_, value in zip(signature.parameters, sent, strict=True)
    ]
    assert packed(read_) == packed([*handles(function), *expected])


@pytest.mark.parametrize("function", WITH_ARGUMENTS)
@quick
@given(data=st.data())
def test_no_name_in_the_arguments_can_be_another(function: str, data: DataObject) -> None:
    """Fields, cases and enums: each is needed, and no other is taken."""
    signature = all_declared()[function]
    sent = arguments_of(data, signature)
    places = [
        place
        for type_, value in zip(signature.parameters, sent, strict=True)
        for place in wit_types.places(type_, value)
    ]
    assume(places)
    data.draw(st.sampled_from(places)).spoil()

    async def call() -> None:
        guest = GuestCalls(MemoryCsi(lambda *_: pytest.fail("was called")), CONTEXT)
        with pytest.raises(InvalidCsiCall) as caught:
            await guest.call(function, packed([*handles(function), *sent]))
        assert f"`{function}`" in caught.value.detail

    asyncio.run(call())


def answering(data: DataObject, function: str) -> MemoryCsi:
    tools = function.startswith(WITH_TOOLS) and "complet" not in function

    def answer(call: str, request: Any) -> Any:
        if call == "select_language":
            return data.draw(st.sampled_from([*request.languages, None]))
        return data.draw(model(RESULTS[call], tools=tools))

    return MemoryCsi(answer)


@pytest.mark.parametrize("function", CALLS)
@quick
@given(data=st.data())
def test_every_result_has_the_declared_type(function: str, data: DataObject) -> None:
    signature = all_declared()[function]
    assert signature.result is not None
    guest = GuestCalls(answering(data, function), CONTEXT)
    result = asyncio.run(guest.call(function, packed(arguments_of(data, signature))))
    arrived = wit_types.through_the_engine(signature.result, unpacked(result))
    assert packed(arrived) == result


@pytest.mark.parametrize("function", CONSTRUCTORS)
@quick
@given(data=st.data())
def test_every_event_has_the_declared_type(function: str, data: DataObject) -> None:
    stream = function.replace("[constructor]", "[method]")
    result = all_declared()[f"{stream}.next"].result
    assert result is not None
    sent = arguments_of(data, all_declared()[function])

    async def events() -> list[Any]:
        guest = GuestCalls(answering(data, function), CONTEXT)
        try:
            await ask(guest, function, 1, *sent)
            return await read(guest, stream, 1)
        finally:
            await guest.close()

    for event in asyncio.run(events()):
        assert packed(wit_types.through_the_engine(result, event)) == packed(event)
