"""Reading and writing WebAssembly."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from pharia_kernel_sdk.build import snapshot, wasm
from pharia_kernel_sdk.build.anatomy import anatomy

NAMED = bytes(
    wasmtime.wat2wasm(
        '(module $m (memory (export "memory") 1) (data (i32.const 16) "hello")'
        ' (func $f (export "f") (result i32) (i32.load (i32.const 16))))'
    )
)


def nested(module: bytes) -> bytes:
    inner = wasm.assemble(wasm.COMPONENT, [wasm.Section(wasm.CORE_MODULE, module)])
    return wasm.assemble(wasm.COMPONENT, [wasm.Section(wasm.NESTED_COMPONENT, inner)])


@given(st.integers(0, 2**63))
def test_unsigned_numbers_are_read_as_they_were_written(number: int) -> None:
    assert wasm.Reader(wasm.unsigned(number)).unsigned() == number


@pytest.mark.parametrize(
    ("number", "encoded"), [(0, "00"), (63, "3f"), (64, "c000"), (-1, "7f"), (-65, "bf7f")]
)
def test_signed_numbers(number: int, encoded: str) -> None:
    assert wasm.signed(number).hex() == encoded


def test_names_go_from_modules_in_components_in_components() -> None:
    binary = nested(NAMED + wasm.custom(".debug_info", b"x" * 100).encode())
    stripped = wasm.stripped(binary)
    assert b".debug_info" in binary and b".debug_info" not in stripped
    assert len(stripped) < len(binary) - 100
    wasmtime.Module(wasmtime.Engine(), wasm.stripped(NAMED))


def test_what_linkers_need_stays() -> None:
    binary = NAMED + wasm.custom("dylink.0", b"x").encode() + wasm.custom("mine", b"y").encode()
    stripped = wasm.stripped(binary)
    assert wasm.custom_section(stripped, "dylink.0") == b"x"
    assert wasm.custom_section(stripped, "mine") == b"y"
    assert wasm.custom_section(stripped, "name") is None


@pytest.mark.parametrize("binary", [b"", b"no wasm at all", NAMED[:-3]])
def test_what_is_damaged_is_refused(binary: bytes) -> None:
    with pytest.raises(wasm.MalformedError):
        list(wasm.sections(binary))


def test_a_component_gets_another_memory() -> None:
    component = wasm.assemble(wasm.COMPONENT, [wasm.Section(wasm.CORE_MODULE, bytes(NAMED))])
    memory = bytearray(3 * 65536)
    memory[16:20] = (42).to_bytes(4, "little")
    memory[-1] = 7
    changed = snapshot.with_memory(component, bytes(memory))
    (section,) = wasm.sections(changed)
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, section.body)
    exports = wasmtime.Instance(store, module, []).exports(store)
    function, kept = exports["f"], exports["memory"]
    assert isinstance(function, wasmtime.Func) and isinstance(kept, wasmtime.Memory)
    assert function(store) == 42
    assert bytes(kept.read(store)) == bytes(memory)


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=8)), max_size=20))
def test_zeros_are_left_out_and_nothing_else(parts: list[tuple[int, bytes]]) -> None:
    memory = b"".join(b"\0" * zeros + content for zeros, content in parts)
    rebuilt = bytearray(len(memory))
    for start, end in snapshot._nonzero(memory):
        rebuilt[start:end] = memory[start:end]
    assert bytes(rebuilt) == memory


def test_a_component_without_a_memory_is_refused() -> None:
    with pytest.raises(wasm.MalformedError, match="0 modules"):
        snapshot.with_memory(wasm.COMPONENT, b"")
    with pytest.raises(wasm.MalformedError, match="no module in it exports memory"):
        snapshot.with_peephole(wasm.COMPONENT)


def test_index_spaces_are_counted() -> None:
    component = wasmtime.wat2wasm(
        '(component (import "a" (func $a)) (core module $m (func (export "f")))'
        ' (core instance $i (instantiate $m)) (alias core export $i "f" (core func $f))'
        ' (type $t (func)) (func $g (type $t) (canon lift (core func $f))) (export "g" (func $g)))'
    )
    found = anatomy(bytes(component))
    assert found.sizes["func"] == 3  # imported, lifted, exported
    assert (found.sizes["core func"], found.sizes["core module"]) == (1, 1)
    assert found.instance_that_exports("f") == 0
