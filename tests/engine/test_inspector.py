from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wasmtime import wat2wasm

from pharia_kernel.engine.api import ComponentKind
from pharia_kernel.engine.inspector import inspect, inspect_names, names
from pharia_kernel.errors import (
    CompileFailed,
    NotAComponent,
    SkillLoadError,
    UnsatisfiedImport,
    UnsupportedWorld,
    WitTooNew,
    WitTooOld,
)
from tests.support.components import skill

HANDLER = "pharia:skill/skill-handler"
STREAM = "pharia:skill/message-stream"
FUNCTION, MESSAGE_STREAM = ComponentKind.FUNCTION, ComponentKind.MESSAGE_STREAM
TINY = skill("tiny_stream")


def number(value: int) -> bytes:
    """LEB128."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + number(rest) if rest else bytes([low])


def section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + number(len(content)) + content


def export(name: bytes) -> bytes:
    """An instance, without type."""
    return b"\0" + number(len(name)) + name + b"\x05\0\0"


def component(*sections: bytes) -> bytes:
    return b"\0asm\x0d\0\x01\0" + b"".join(sections)


# --- the world


@pytest.mark.parametrize(
    ("exports", "kind", "version"),
    [
        ([f"{HANDLER}@0.2.0"], FUNCTION, "0.2.0"),
        ([f"{HANDLER}@0.2.10"], FUNCTION, "0.2.10"),
        ([f"{HANDLER}@0.3.0"], FUNCTION, "0.3.0"),
        ([f"{HANDLER}@0.3.11"], FUNCTION, "0.3.11"),
        ([f"{HANDLER}@0.4.0"], FUNCTION, "0.4.0"),
        ([f"{HANDLER}@0.5.0"], FUNCTION, "0.5.0"),
        ([f"{STREAM}@0.3.6"], MESSAGE_STREAM, "0.3.6"),
        ([f"{STREAM}@0.5.0"], MESSAGE_STREAM, "0.5.0"),
        (["exports", "acme:thing/api@1.0.0", f"{HANDLER}@0.3.5"], FUNCTION, "0.3.5"),
        ([f"{STREAM}@0.4.0", f"{HANDLER}@0.4.0"], MESSAGE_STREAM, "0.4.0"),
        ([f"{HANDLER}@0.4.0", f"{STREAM}@0.4.0"], FUNCTION, "0.4.0"),
        ([f"{STREAM}@0.2.10", f"{HANDLER}@0.2.10"], FUNCTION, "0.2.10"),
    ],
)
def test_the_first_export_of_a_known_world_decides(
    exports: list[str], kind: ComponentKind, version: str
) -> None:
    info = inspect_names([], exports)
    assert (info.kind, info.wit_version) == (kind, version)
    assert info.line == version[:3]


@pytest.mark.parametrize(
    "exports",
    [
        [],
        ["run"],
        [HANDLER],  # without version
        ["pharia:skill/other@0.3.0"],
        ["acme:skill/skill-handler@0.3.0"],
        [f"{STREAM}@0.2.10"],  # 0.2 has no streams
        [f"{HANDLER}@0.3"],
        [f"{HANDLER}@0.3.x"],
        [f"{HANDLER}@0.3.1.2"],
        [f"{HANDLER}@0.3." + "9" * 5000],
        [f"{HANDLER}@0.3.\u0661"],  # a digit, but no ASCII one
    ],
    ids=lambda exports: ",".join(exports)[:60],
)
def test_without_a_known_world_it_is_no_skill(exports: list[str]) -> None:
    with pytest.raises(UnsupportedWorld) as error:
        inspect_names([], exports)
    assert len(error.value.detail) < 1000


def test_the_exports_there_are_instead_are_named() -> None:
    with pytest.raises(UnsupportedWorld, match="it exports `a`, `b`"):
        inspect_names([], ["a", "b"])


@pytest.mark.parametrize("version", ["0.2.11", "0.3.12", "0.4.1", "0.5.1", "0.6.0", "1.0.0"])
def test_versions_beyond_the_newest_are_too_new(version: str) -> None:
    with pytest.raises(WitTooNew, match=f"built for pharia:skill@{version}"):
        inspect_names([], [f"{HANDLER}@{version}"])


@pytest.mark.parametrize("version", ["0.1.0", "0.1.99", "0.0.1"])
def test_lines_before_the_oldest_are_too_old(version: str) -> None:
    with pytest.raises(WitTooOld, match=f"built for pharia:skill@{version}"):
        inspect_names([], [f"{HANDLER}@{version}"])


def test_the_newest_version_of_the_line_is_named() -> None:
    with pytest.raises(WitTooNew, match=r"newest that this kernel runs is 0\.3\.11"):
        inspect_names([], [f"{HANDLER}@0.3.99"])
    with pytest.raises(WitTooNew, match=r"newest that this kernel runs is 0\.5\.0"):
        inspect_names([], [f"{HANDLER}@0.9.0"])


# --- imports


@pytest.mark.parametrize(
    "name",
    [
        "pharia:skill/inference@0.3.11",
        "pharia:skill/inference@0.3.0",
        "wasi:cli/environment@0.2.0",
        "wasi:sockets/tcp@0.2.6",
        "wasi:random/insecure-seed@0.2.3",
    ],
)
def test_what_is_linked_may_be_imported(name: str) -> None:
    assert inspect_names([name], [f"{HANDLER}@0.3.11"]).kind is FUNCTION


@pytest.mark.parametrize(
    "name",
    [
        "acme:thing/api@1.0.0",
        "wasi:http/outgoing-handler@0.2.0",
        "wasi:cli/environment@0.3.0",
        "wasi:cli/environment",
        "pharia:skill/inference",
        "pharia:skill/inference@0.1.0",
        "pharia:skill/inference@1.0.0",
        "plain-function",
    ],
)
def test_other_imports_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnsatisfiedImport, match=f"imports `{name}`"):
        inspect_names([name], [f"{HANDLER}@0.3.11"])


# --- the binary


def test_names_are_those_of_the_real_components() -> None:
    assert names(TINY) == (
        ["pharia:skill/streaming-output@0.3.11"],
        ["pharia:skill/message-stream@0.3.11"],
    )


@pytest.mark.parametrize(
    ("name", "kind", "version"),
    [
        ("greet", FUNCTION, "0.3.11"),
        ("greet_02", FUNCTION, "0.2.10"),
        ("greet_js", FUNCTION, "0.3.11"),
        ("stream_chat", MESSAGE_STREAM, "0.3.11"),
        ("stream_05", MESSAGE_STREAM, "0.5.0"),
    ],
)
def test_components_of_real_toolchains(name: str, kind: ComponentKind, version: str) -> None:
    info = inspect(skill(name))
    assert (info.kind, info.wit_version) == (kind, version)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "The file is empty"),
        (b"\0as", "not WebAssembly"),
        (b"<html>not found</html>", "begins with b'<htm'"),
        (b"\0asm\x01\0\0\0", "core WebAssembly module"),
        (b"\0asm\x0c\0\x01\0", "version bytes 0c000100"),
    ],
)
def test_other_files_are_told_apart(data: bytes, detail: str) -> None:
    with pytest.raises(NotAComponent, match=detail):
        inspect(data)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (component(b"\x0b"), "ends in the middle"),
        (component(b"\x0b\x05\x01"), "beyond the end of the file"),
        (component(section(11, b"\x01\0\x7fabc")), "a name reaches beyond"),
        (component(section(11, b"\x01\x07\x01a\x05\0\0")), "unknown form 7"),
        (component(section(11, b"\x01" + export(b"\xff"))), "utf-8"),
        (component(section(11, b"\xff\xff\xff\xff\xff\x01")), "more than 32 bits"),
    ],
)
def test_damage_is_named(data: bytes, detail: str) -> None:
    with pytest.raises(CompileFailed, match=detail):
        inspect(data)


def test_a_section_can_not_claim_what_lies_behind_it() -> None:
    """Else a file of many small sections would be read again for each of them."""
    behind = section(11, b"\x01" + export(b"a"))
    with pytest.raises(CompileFailed, match="ends in the middle"):
        names(component(section(11, b"\x7f"), behind))


def test_nested_components_do_not_count() -> None:
    inner = wat2wasm(f"""(component
        (component (instance $i) (export "{HANDLER}@0.3.0" (instance $i)))
        (instance $own) (export "acme:a/b@1.0.0" (instance $own)))""")
    assert names(bytes(inner)) == ([], ["acme:a/b@1.0.0"])


def test_every_kind_of_import_and_export_is_read_over() -> None:
    text = """(component
      (import "func" (func (param "a" u32)))
      (import "instance" (instance (export "f" (func))))
      (import "component" (component))
      (import "module" (core module $module))
      (import "type-eq" (type (eq $t)))
      (import "resource" (type (sub resource)))
      (import "acme:a/b@1.0.0" (instance))
      (export "module-out" (core module $module))
      (export "type-out" (type $t)))"""
    text = text.replace("(component\n", "(component (type $t u8)\n", 1)
    imported, exported = names(bytes(wat2wasm(text)))
    assert imported == [
        "func", "instance", "component", "module", "type-eq", "resource", "acme:a/b@1.0.0",
    ]  # fmt: skip
    assert exported == ["module-out", "type-out"]


def only_load_errors(data: bytes) -> None:
    try:
        inspect(data)
    except SkillLoadError as error:
        assert error.detail


@given(st.integers(0, len(TINY)))
def test_truncated_components_give_load_errors(length: int) -> None:
    only_load_errors(TINY[:length])


@given(st.lists(st.tuples(st.integers(0, len(TINY) - 1), st.integers(0, 255)), max_size=8))
def test_flipped_bytes_give_load_errors(changes: list[tuple[int, int]]) -> None:
    data = bytearray(TINY)
    for at, byte in changes:
        data[at] = byte
    only_load_errors(bytes(data))


@given(st.binary(max_size=200))
@example(section(11, b"\x01" + export(f"{HANDLER}@0.3.{'9' * 5000}".encode())))
def test_noise_behind_the_header_gives_load_errors(data: bytes) -> None:
    only_load_errors(component(data))
