"""Values go to a guest and back: the guest takes a list from one host function and hands it to
another. So every value is written by a lowerer, copied through a guest's memory, and read by a
lifter.
"""

from __future__ import annotations

import ctypes
import functools
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import Engine, WasmtimeError, wat2wasm
from wasmtime import component as wit
from wasmtime.component import Component

from pharia_kernel.engine import binding, values
from pharia_kernel.engine.binding import VAL_SIZE, Context
from pharia_kernel.engine.traps import trap_error
from pharia_kernel.engine.values import UnsupportedType, lift_one, lower_one
from pharia_kernel.errors import SkillCrashed

TYPES: dict[str, tuple[str, str]] = {
    # name -> (declarations, type)
    **{
        name: ("", name)
        for name in ("bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64")
    },
    "string": ("", "string"),
    "bytes": ("", "(list u8)"),
    "strings": ("", "(list string)"),
    "lists": ("", "(list (list (list u32)))"),
    "option": ("", "(option u32)"),
    "options": ("", "(list (option string))"),
    "option-of-bytes": ("", "(option (list u8))"),
    "result": ("", "(result (list string) (error string))"),
    "empty-result": ("", "(result)"),
    "ok-only": ("", "(result u64)"),
    "error-only": ("", "(result (error f64))"),
    "enum": ('(type $e (enum "a" "b-c" "d")) (export "e" (type $enum (eq $e)))', "$enum"),
    "numbers": (
        """(type $n (record
          (field "a" bool) (field "b" s8) (field "c" u8) (field "d" s16) (field "e" u16)
          (field "f" s32) (field "g" u32) (field "h" s64) (field "i" u64) (field "j" f32)
          (field "k" f64)))
        (export "n" (type $numbers (eq $n)))""",
        "$numbers",
    ),
    "variant": (
        """(type $v (variant (case "none") (case "number" f64) (case "text" string)
          (case "bytes" (option (list u8))) (case "flag" bool)))
        (export "v" (type $variant (eq $v)))""",
        "$variant",
    ),
    "nested": (
        """(type $r (enum "user" "assistant")) (export "r" (type $role (eq $r)))
        (type $m (record (field "role" $role) (field "content" (option string))))
        (export "m" (type $message (eq $m)))
        (type $l (variant (case "no") (case "top" u8))) (export "l" (type $logprobs (eq $l)))
        (type $f (variant (case "all" (list $message)) (case "one" $message) (case "null")))
        (export "f" (type $filter (eq $f)))
        (type $q (record
          (field "messages" (list $message)) (field "max-tokens" (option u32))
          (field "logprobs" $logprobs) (field "filters" (list $filter))
          (field "answer" (result (list $message) (error $filter)))
          (field "choice" (option $filter)) (field "schema" (option (list u8)))))
        (export "q" (type $request (eq $q)))""",
        "$request",
    ),
}

ECHO = """(component
  (import "test:host/api" (instance $api
    {declarations}
    (export "give" (func (result (list {type}))))
    (export "take" (func (param "values" (list {type}))))))
  (core module $libc
    (memory (export "memory") 2)
    (global $heap (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
      (global.set $heap (i32.add (local.get $at) (local.get $size)))
      (drop (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 65535)) (i32.const 16))))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $give (canon lower (func $api "give") (memory $memory) (realloc $realloc)))
  (core func $take (canon lower (func $api "take") (memory $memory) (realloc $realloc)))
  (core module $main
    (import "libc" "memory" (memory 1))
    (import "host" "give" (func $give (param i32)))
    (import "host" "take" (func $take (param i32 i32)))
    (func (export "run")
      (call $give (i32.const 16))
      (call $take (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance (export "give" (func $give)) (export "take" (func $take))))))
  (func (export "run") (canon lift (core func $main "run"))))"""


class Echo:
    """A guest for one type. ``item`` is the type of the items of its list."""

    def __init__(self, name: str) -> None:
        declarations, type_ = TYPES[name]
        text = ECHO.format(declarations=declarations, type=type_)
        self.engine = binding.new_engine(binding.EngineOptions(pooling=False))
        self.component = Component(self.engine, bytes(wat2wasm(text)))
        self.run_export = self.component.get_export_index("run")
        self.list_type = result_of_give(self.engine, self.component)
        self.item = self.list_type.element
        self.given: Any = None
        self.taken: Any = None
        self.linker = binding.HostLinker(self.engine)
        self.linker.define("test:host/api", {"give": self.give, "take": self.take}, {})
        self.quiet = binding.OutputCallback(lambda _run, _data: None)

    def give(self, _context: Context, type_: int, _arguments: int, _count: int, at: int) -> None:
        result = binding.function_type(type_).result
        assert result is not None
        lower_one(values.lowerer(result), self.given, at)

    def take(self, _context: Context, type_: int, arguments: int, _count: int, _at: int) -> None:
        ((_, parameter),) = binding.function_type(type_).params
        self.taken = lift_one(values.lifter(parameter), arguments)

    def __call__(self, items: Any) -> Any:
        self.given, self.taken = items, None
        store = binding.Store(self.engine, 1, 1 << 28, self.quiet, self.quiet)
        instance, future = binding.instantiate(self.linker.linker, store, self.component)
        finish(future)
        none = binding.Values(0)
        finish(binding.call(instance.function(self.run_export), store, none, none))
        store.close()
        return self.taken


def result_of_give(engine: Engine, component: Component) -> wit.ListType:
    api = component.type.imports(engine)["test:host/api"].ty
    assert isinstance(api, wit.ComponentInstanceType)
    give = api.exports(engine)["give"].ty
    assert isinstance(give, wit.FuncType)
    assert isinstance(give.result, wit.ListType)
    return give.result


def finish(future: binding.Future) -> None:
    while not future.poll():
        pass
    error = future.error()
    future.close()
    if error:
        raise error


@functools.cache
def echo(name: str) -> Echo:
    return Echo(name)


# --- values of any type

INTEGERS = {
    wit.S8: (-(2**7), 2**7 - 1),
    wit.U8: (0, 2**8 - 1),
    wit.S16: (-(2**15), 2**15 - 1),
    wit.U16: (0, 2**16 - 1),
    wit.S32: (-(2**31), 2**31 - 1),
    wit.U32: (0, 2**32 - 1),
    wit.S64: (-(2**63), 2**63 - 1),
    wit.U64: (0, 2**64 - 1),
}


def any_value(type_: wit.ValType | None) -> st.SearchStrategy[Any]:
    """Plain data of a type."""
    if bounds := INTEGERS.get(type(type_)):  # type: ignore[arg-type]
        return st.integers(*bounds)
    match type_:
        case None:
            return st.none()
        case wit.Bool():
            return st.booleans()
        case wit.F32() | wit.F64():
            return st.floats(allow_nan=False, width=32 if isinstance(type_, wit.F32) else 64)
        case wit.String():
            return st.text(max_size=20)
        case wit.EnumType():
            return st.sampled_from(type_.names)
        case wit.OptionType():
            return st.none() | any_value(type_.payload)
        case wit.ListType() if isinstance(type_.element, wit.U8):
            return st.binary(max_size=40)
        case wit.ListType():
            return st.lists(any_value(type_.element), max_size=4)
        case wit.RecordType():
            return st.fixed_dictionaries({name: any_value(field) for name, field in type_.fields})
        case wit.VariantType():
            return st.one_of(*(a_case(name, case) for name, case in type_.cases))
        case wit.ResultType():
            return a_case("ok", type_.ok) | a_case("err", type_.err)
    raise AssertionError(f"no strategy for {type_}")


def a_case(name: str, payload: wit.ValType | None) -> st.SearchStrategy[list[Any]]:
    return any_value(payload).map(lambda value: [name, value])


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_values_arrive_as_they_were_sent(name: str, data: st.DataObject) -> None:
    guest = echo(name)
    sent = data.draw(any_value(guest.list_type))
    received = guest(sent)
    assert received == sent
    assert type(received) is type(sent)


@pytest.mark.parametrize("name", TYPES)
def test_empty_lists(name: str) -> None:
    empty = b"" if name == "u8" else []
    assert echo(name)(empty) == empty


@pytest.mark.parametrize(
    "text", ["", "\0", "häß", "日本語", "👩‍👩‍👧‍👦", "\U0010ffff", "a" * 100_000]
)
def test_texts(text: str) -> None:
    assert echo("string")([text]) == [text]
    assert echo("options")([[text, None, ""]]) == [[text, None, ""]]


def test_bytes_of_a_mebibyte() -> None:
    data = bytes(range(256)) * 4096
    assert echo("u8")(data) == data


def test_a_list_of_bytes_can_have_so_many() -> None:
    """What wasmtime copies in one call is bounded, and each byte counts 48; the message says so."""
    guest, most = echo("u8"), 2_796_201
    assert guest(bytes(most)) == bytes(most)
    with pytest.raises(WasmtimeError) as raised:
        guest(bytes(most + 100))
    error = trap_error(str(raised.value), 1)
    assert isinstance(error, SkillCrashed)
    assert f"{most:,} bytes of a byte list" in error.detail


def test_many_records() -> None:
    numbers = dict.fromkeys("abcdefghijk", 1) | {"a": True, "j": 0.5, "k": 0.1}
    assert echo("numbers")([numbers] * 5000) == [numbers] * 5000


def test_nan_and_infinity() -> None:
    for name in ("f32", "f64"):
        nan, up, down, zero = echo(name)([math.nan, math.inf, -math.inf, -0.0])
        assert math.isnan(nan)
        assert (up, down) == (math.inf, -math.inf)
        assert math.copysign(1, zero) == -1


def test_f32_is_rounded() -> None:
    assert echo("f32")([0.1]) == list(struct.unpack("f", struct.pack("f", 0.1)))


def test_a_number_without_a_fraction_may_be_an_integer() -> None:
    assert echo("f64")([1]) == [1.0]


def test_members_that_the_type_does_not_have_are_ignored() -> None:
    numbers = dict.fromkeys("abcdefghijk", 1)
    assert echo("numbers")([numbers | {"z": 1}]) == [numbers]


# --- what does not fit

BAD_NESTED: list[Callable[[dict[str, Any]], Any]] = [
    lambda v: v.pop("choice"),
    lambda v: v.update(messages="text"),
    lambda v: v.update(messages={"role": "user"}),
    lambda v: v["messages"].append({"role": "nobody", "content": None}),
    lambda v: v["messages"].append({"role": "user"}),
    lambda v: v.update({"max-tokens": -1}),
    lambda v: v.update({"max-tokens": 2**32}),
    lambda v: v.update(logprobs=["bottom", 1]),
    lambda v: v.update(logprobs=["top", 256]),
    lambda v: v.update(logprobs=["top"]),
    lambda v: v.update(logprobs=[]),
    lambda v: v.update(logprobs=None),
    lambda v: v.update(answer=["maybe", []]),
    lambda v: v.update(answer=["err", ["all", [None]]]),
    lambda v: v.update(schema="text"),
    lambda v: v.update(schema=[1, 2]),
]


def nested() -> dict[str, Any]:
    message = {"role": "user", "content": "text"}
    return {
        "messages": [message],
        "max-tokens": 1,
        "logprobs": ["top", 1],
        "filters": [["all", [message, message]], ["null", None]],
        "answer": ["ok", [message]],
        "choice": None,
        "schema": b"{}",
    }


BAD: list[tuple[str, Any]] = [
    ("bool", None),
    ("u8", -1),
    ("u8", 256),
    ("s8", 128),
    ("u64", 2**64),
    ("s64", -(2**63) - 1),
    ("u32", 1.5),
    ("u32", "1"),
    ("u32", None),
    ("f64", "1"),
    ("f32", 1e300),
    ("string", 1),
    ("string", b"bytes"),
    ("string", "\ud800"),
    ("bytes", "text"),
    ("bytes", 3),
    ("bytes", None),
    ("strings", "text"),
    ("strings", ["text", 1]),
    ("enum", "z"),
    ("enum", None),
    ("enum", ["a"]),
    ("variant", "none"),
    ("variant", ["text", 1]),
    ("variant", ["unknown", None]),
    ("result", ["ok", ["text", None]]),
    ("numbers", {}),
    ("numbers", None),
    ("numbers", list(range(11))),
]


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    value = nested()
    change(value)
    return value


def test_the_value_that_is_made_bad_is_good() -> None:
    assert echo("nested")([nested()]) == [nested()]


@pytest.mark.parametrize(
    ("name", "value"),
    [*BAD, *(("nested", changed(change)) for change in BAD_NESTED)],
    ids=lambda value: repr(value)[:40],
)
def test_what_does_not_fit_raises_and_writes_nothing(name: str, value: Any) -> None:
    untouched = bytes(range(VAL_SIZE))
    target = ctypes.create_string_buffer(untouched, VAL_SIZE)
    with pytest.raises(
        (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, struct.error)
    ):
        lower_one(values.lowerer(echo(name).item), value, ctypes.addressof(target))
    assert target.raw == untouched


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    st.sampled_from([name for name in TYPES if name not in ("bool", "f32", "f64")]),
)
def test_any_data_is_either_lowered_faithfully_or_refused(value: Any, name: str) -> None:
    guest = echo(name)
    target = ctypes.create_string_buffer(VAL_SIZE)
    try:
        lower_one(values.lowerer(guest.item), value, ctypes.addressof(target))
    except Exception:
        assert target.raw == bytes(VAL_SIZE)
    else:
        assert lift_one(values.lifter(guest.item), ctypes.addressof(target)) == value


def test_types_that_no_world_uses_are_not_supported() -> None:
    text = """(component (import "test:host/api" (instance
      (type $f (flags "a")) (export "f" (type $flags (eq $f)))
      (export "f1" (func (param "v" char))) (export "f2" (func (param "v" (tuple u8 u8))))
      (export "f3" (func (param "v" (list char)))) (export "f4" (func (param "v" $flags))))))"""
    engine = binding.new_engine(binding.EngineOptions(pooling=False))
    component = Component(engine, bytes(wat2wasm(text)))
    api = component.type.imports(engine)["test:host/api"].ty
    assert isinstance(api, wit.ComponentInstanceType)
    functions = [item.ty for item in api.exports(engine).values()]
    parameters = [f.params[0][1] for f in functions if isinstance(f, wit.FuncType)]
    assert len(parameters) == 4
    for parameter in parameters:
        with pytest.raises(UnsupportedType):
            values.lifter(parameter)
        with pytest.raises(UnsupportedType):
            values.lowerer(parameter)
