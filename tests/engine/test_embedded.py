from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pharia_kernel_sdk.build.component import METADATA_SECTION
from pharia_kernel_sdk.build.wasm import Section, custom
from wasmtime import wat2wasm

from pharia_kernel.engine.api import ComponentKind
from pharia_kernel.engine.compiler import CompilerProcess
from pharia_kernel.engine.embedded import MAX_SIZE, SECTION, UselessMetadata, parse, read
from pharia_kernel.engine.inspector import custom_section
from tests.support.components import compiler_settings, digest_of, skill

STREAM = ComponentKind.MESSAGE_STREAM
TINY = skill("tiny_stream")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
NOTE: dict[str, Any] = {
    "kind": "message-stream",
    "name": "tiny",
    "description": "Says it again.",
    "input_schema": SCHEMA,
    "output_schema": None,
    "sdk": "acme 1.0",
}


def section(content: bytes, name: str = SECTION) -> bytes:
    return custom(name, content).encode()


def noted(**changes: Any) -> bytes:
    return TINY + section(json.dumps(NOTE | changes).encode())


# --- reading


def test_the_sdk_and_the_kernel_mean_the_same_section() -> None:
    assert SECTION == METADATA_SECTION


def test_what_the_component_carries_is_read() -> None:
    found = read(noted(), STREAM)
    assert found
    assert found.description == "Says it again."
    assert json.loads(bytes(found.input_schema)) == SCHEMA
    assert bytes(found.output_schema) == b"null"


def test_most_components_carry_nothing() -> None:
    assert read(TINY, STREAM) is None


def test_everything_in_it_is_optional() -> None:
    found = read(TINY + section(b"{}"), STREAM)
    assert found
    assert (found.description, bytes(found.input_schema)) == (None, b"null")


@pytest.mark.parametrize(
    "before",
    [
        section(b"x", "producers"),
        section(b"x", SECTION + "-2"),
        section(b"x", SECTION[:-1]),
        section(b"x" * 1000, "n" * 200),
        Section(0, b"\x02\xff\xff").encode(),
        Section(0, b"\xff\xff\xff\xff\xff\xff").encode(),
        Section(0, b"").encode(),
    ],
    ids=["other", "longer", "shorter", "very long", "no text", "no length", "empty"],
)
def test_other_custom_sections_are_read_over(before: bytes) -> None:
    found = read(TINY + before + section(b'{"description": "here"}'), STREAM)
    assert found
    assert found.description == "here"


def test_the_first_one_counts() -> None:
    both = TINY + section(b'{"description": "one"}') + section(b'{"description": "two"}')
    found = read(both, STREAM)
    assert found
    assert found.description == "one"


def test_those_of_nested_components_do_not_count() -> None:
    inner = bytes(wat2wasm("(component)")) + section(b"{}")
    outer = bytes(wat2wasm("(component)")) + Section(4, inner).encode()
    assert bytes(custom_section(inner, SECTION) or b"") == b"{}"
    assert custom_section(outer, SECTION) is None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not the expected JSON"),
        (b"{", "not the expected JSON"),
        (b"[]", "Expected `object`"),
        (b'{"description": 5}', "got `int` - at `\\$.description`"),
        (b'{"description": "\xff"}', "can't decode byte"),
        (b'{"input_schema": nul}', "not the expected JSON"),
        (b'{"input_schema": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "recursion|[Ss]tack"),
        (b'{"kind": "function"}', "kind 'function', but the component's is message_stream"),
        (b'{"kind": "juggler"}', "kind 'juggler'"),
        (b'{"x": "' + b"x" * MAX_SIZE + b'"}', "bytes; 1048576 are allowed"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_wrong_with_it_is_said(content: bytes, complaint: str) -> None:
    with pytest.raises(UselessMetadata, match=complaint):
        read(TINY + section(content), STREAM)


@given(st.binary(max_size=200))
def test_any_section_is_read_over_or_useless(body: bytes) -> None:
    assert read(TINY + Section(0, body).encode(), STREAM) is None
    try:
        parse(body, STREAM)
    except UselessMetadata as error:
        assert str(error)


# --- and keeping


def compiler(directory: Path) -> CompilerProcess:
    return CompilerProcess(compiler_settings(directory))


async def test_it_is_kept_with_the_artifact(tmp_path: Path) -> None:
    wasm = noted()
    compiled = await compiler(tmp_path).compile(digest_of(wasm), wasm)
    assert compiled.info.embedded == read(wasm, STREAM)
    assert await compiler(tmp_path).cached(compiled.digest) == compiled, "by the next kernel"


async def test_a_useless_one_is_no_reason_not_to_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wasm = noted(description=["not", "a", "text"])
    with caplog.at_level(logging.WARNING):
        artifact = await compiler(tmp_path).compile(digest_of(wasm), wasm)
    assert artifact.info.embedded is None
    (warning,) = caplog.messages
    assert SECTION in warning and artifact.digest in warning and "$.description" in warning
