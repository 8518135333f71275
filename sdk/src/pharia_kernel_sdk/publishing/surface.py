"""Names that a component imports and exports, which tell whether it is a skill.

Layout of the sections: the component model's design/mvp/Binary.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pharia_kernel_sdk.build import wasm
from pharia_kernel_sdk.build.wasm import MalformedError, Reader
from pharia_kernel_sdk.publishing.errors import PublishError

PACKAGE = "pharia:skill"

Kind = Literal["function", "message-stream"]

_IMPORTS, _EXPORTS = 10, 11
_CORE_SORT, _TYPE_BOUND, _VALUE_BOUND = 0, 3, 2
_ENTRY = re.compile(
    rf"{PACKAGE}/(skill-handler|message-stream)@([0-9]+\.[0-9]+\.[0-9]+)(?:[-+].*)?"
)
_KINDS: dict[str, Kind] = {"skill-handler": "function", "message-stream": "message-stream"}


@dataclass(frozen=True)
class Surface:
    """What makes a component a skill."""

    kind: Kind
    wit_version: str
    """Full, such as ``0.4.0``."""
    imports: list[str]
    exports: list[str]


def surface_of(component: bytes, shown: str) -> Surface:
    """Raises ``PublishError`` if the bytes are no skill; ``shown`` is what to call them then."""
    try:
        imports, exports = _names(component)
    except (MalformedError, UnicodeDecodeError) as error:
        raise PublishError(f"{shown} is not a WebAssembly component: {error}.") from None
    for name in exports:
        if entry := _ENTRY.fullmatch(name):
            return Surface(_KINDS[entry[1]], entry[2], imports, exports)
    listed = ", ".join(f"`{name[:100]}`" for name in exports[:5]) or "nothing"
    raise PublishError(
        f"{shown} is a component, but not a skill: it exports neither `{PACKAGE}/skill-handler` "
        f"nor `{PACKAGE}/message-stream`; it exports {listed}."
    )


def _names(component: bytes) -> tuple[list[str], list[str]]:
    if component[:8] == wasm.CORE:
        raise MalformedError(
            "it is a core module; build it for the component model, such as the target "
            "wasm32-wasip2"
        )
    imports: list[str] = []
    exports: list[str] = []
    for section in wasm.sections(component):
        reader = Reader(section.body)
        if section.id == _IMPORTS:
            imports += [_import(reader) for _ in reader.count()]
        elif section.id == _EXPORTS:
            exports += [_export(reader) for _ in reader.count()]
    return imports, exports


def _import(reader: Reader) -> str:
    name = _name(reader)
    _skip_description(reader)
    return name


def _export(reader: Reader) -> str:
    name = _name(reader)
    if reader.byte() == _CORE_SORT:
        reader.byte()
    reader.unsigned()
    if reader.byte():
        _skip_description(reader)
    return name


def _name(reader: Reader) -> str:
    reader.byte()
    return reader.name()


def _skip_description(reader: Reader) -> None:
    sort = reader.byte()
    if sort == _CORE_SORT:
        reader.byte()
    elif sort in (_TYPE_BOUND, _VALUE_BOUND) and reader.byte() == 1 and sort == _TYPE_BOUND:
        return  # a new resource type has no index
    reader.unsigned()
