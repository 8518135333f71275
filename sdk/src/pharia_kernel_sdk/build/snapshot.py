"""Takes a component's memory after it has run, and makes it the memory that it starts with.

This is what Wizer and componentize-py do with a freshly linked component. Here the component is one
that has been initialized before (``images``), so that only its memory has to be replaced: between
two calls of its exports nothing else holds state (``_SETTLE`` sees to the rest).

The component can't be asked for its memory from outside, so a copy of it gets one more export
(``with_peephole``). That returns all memory as one string in Latin-1: any bytes are such a
string, and a runtime copies strings as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import wasmtime

from pharia_kernel_sdk.build.anatomy import anatomy
from pharia_kernel_sdk.build.wasm import (
    CORE_MODULE,
    MalformedError,
    Reader,
    Section,
    assemble,
    sections,
    signed,
    string,
    unsigned,
    vector,
)

PEEPHOLE = "pharia-sdk-memory"
_MEMORY = "memory"
_SETTLE = ("wasi_snapshot_preview1:reset_adapter_state", "__wasilibc_reset_preopens")
"""Make WASI's adapter forget its handles, and the C library the folders that it saw."""

_PAGE = 65536
_MEMORY_SECTION, _DATA_SECTION, _DATA_COUNT_SECTION = 5, 11, 12
_GAP = re.compile(rb"\0{24,}")
"""Zeros that are cheaper to leave out than to write: a new segment takes up to 12 bytes."""
_MOST_SEGMENTS = 90_000
"""Runtimes accept 100,000."""

_READER = f"""
(module
  (import "m" "memory" (memory 0))
  (import "m" "{_SETTLE[0]}" (func $adapter))
  (import "m" "{_SETTLE[1]}" (func $libc))
  ;; The first bytes of memory are nobody's: address 0 is the null pointer.
  (func (export "read") (result i32)
    call $adapter
    call $libc
    (i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (i32.mul (memory.size) (i32.const {_PAGE})))
    i32.const 0))
"""


def with_peephole(component: bytes) -> bytes:
    """The component with the export ``PEEPHOLE``, a function without parameters that returns the
    memory. Raises ``MalformedError``."""
    found = anatomy(component)
    sizes = found.sizes
    owner = found.instance_that_exports(_MEMORY, _SETTLE[0])
    libc = found.instance_that_exports(_SETTLE[1])
    memory, function = sizes["core memory"], sizes["core func"]
    arguments, reader = sizes["core instance"], sizes["core instance"] + 1
    aliases = [
        _core_alias(2, owner, _MEMORY),
        _core_alias(0, owner, _SETTLE[0]),
        _core_alias(0, libc, _SETTLE[1]),
    ]
    bundle = [
        string(_MEMORY) + b"\x02" + unsigned(memory),
        string(_SETTLE[0]) + b"\x00" + unsigned(function),
        string(_SETTLE[1]) + b"\x00" + unsigned(function + 1),
    ]
    instances = [
        b"\x01" + vector(bundle),
        b"\x00"
        + unsigned(sizes["core module"])
        + vector([string("m") + b"\x12" + unsigned(arguments)]),
    ]
    returns_string = b"\x40\x00\x00\x73"
    latin1_in_memory = vector([b"\x02", b"\x03" + unsigned(memory)])
    lift = b"\x00\x00" + unsigned(function + 2) + latin1_in_memory + unsigned(sizes["type"])
    export = b"\x00" + string(PEEPHOLE) + b"\x01" + unsigned(sizes["func"]) + b"\x00"
    added = [
        Section(CORE_MODULE, bytes(wasmtime.wat2wasm(_READER))),
        Section(6, vector(aliases)),
        Section(2, vector(instances)),
        Section(6, vector([_core_alias(0, reader, "read")])),
        Section(7, vector([returns_string])),
        Section(8, vector([lift])),
        Section(11, vector([export])),
    ]
    return assemble(component[:8], [*sections(component), *added])


def _core_alias(sort: int, instance: int, name: str) -> bytes:
    return bytes([0, sort, 1]) + unsigned(instance) + string(name)


def with_memory(component: bytes, memory: bytes) -> bytes:
    """The component that starts with this memory. Raises ``MalformedError``."""
    parts = list(sections(component))
    owners = [i for i, part in enumerate(parts) if part.id == CORE_MODULE and _owns(part.body)]
    if len(owners) != 1:
        raise MalformedError(f"{len(owners)} modules in it have a memory with data, expected one")
    (owner,) = owners
    parts[owner] = Section(CORE_MODULE, _refilled(parts[owner].body, memory))
    return assemble(component[:8], parts)


def _owns(module: bytes) -> bool:
    return {_MEMORY_SECTION, _DATA_SECTION} <= {section.id for section in sections(module)}


def _refilled(module: bytes, memory: bytes) -> bytes:
    segments = list(_segments(memory))
    parts = []
    for section in sections(module):
        if section.id == _MEMORY_SECTION:
            parts.append(Section(_MEMORY_SECTION, _resized(section.body, len(memory) // _PAGE)))
        elif section.id == _DATA_SECTION:
            parts.append(Section(_DATA_SECTION, vector(segments)))
        elif section.id == _DATA_COUNT_SECTION:
            parts.append(Section(_DATA_COUNT_SECTION, unsigned(len(segments))))
        else:
            parts.append(section)
    return assemble(module[:8], parts)


def _resized(body: bytes, pages: int) -> bytes:
    reader = Reader(body)
    if reader.unsigned() != 1 or reader.byte() != 0:
        raise MalformedError("its memory has a maximum, or it has several")
    return b"\x01\x00" + unsigned(pages)


def _segments(memory: bytes) -> Iterator[bytes]:
    """Active segments of everything but long runs of zeros."""
    pieces = list(_nonzero(memory))
    if len(pieces) > _MOST_SEGMENTS:
        raise MalformedError(f"its memory has {len(pieces)} pieces")
    for start, end in pieces:
        yield b"\0\x41" + signed(start) + b"\x0b" + unsigned(end - start) + memory[start:end]


def _nonzero(memory: bytes) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in _GAP.finditer(memory):
        if gap.start() > start:
            yield start, gap.start()
        start = gap.end()
    if start < len(memory):
        yield start, len(memory)
