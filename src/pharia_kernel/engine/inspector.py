"""What a component says of itself, read from its binary without compiling it.

Only the import, export and custom sections at the top level are looked at, as the component model's
binary format (github.com/WebAssembly/component-model, design/mvp/Binary.md) lays them out. Whether
the component is valid is for the compiler to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pharia_kernel.engine.api import ComponentInfo, ComponentKind
from pharia_kernel.engine.surface import NEWEST, PACKAGE, WASI_INTERFACES
from pharia_kernel.errors import (
    CompileFailed,
    NotAComponent,
    UnsatisfiedImport,
    UnsupportedWorld,
    WitTooNew,
    WitTooOld,
)

_MAGIC = b"\0asm"
_COMPONENT = b"\x0d\0\x01\0"
_MODULE = b"\x01\0\0\0"
_CUSTOM, _IMPORTS, _EXPORTS = 0, 10, 11
_LONGEST_NUMBER = 5
"""Bytes of a 32-bit number as LEB128."""
_NAME = re.compile(r"(?P<interface>[^@]+)@(?P<version>[0-9]{1,9}(?:\.[0-9]{1,9}){2})(?:[-+].*)?")
_FIRST_WITH_STREAMS = (0, 3, 0)
_KINDS = {
    f"{PACKAGE}/skill-handler": ComponentKind.FUNCTION,
    f"{PACKAGE}/message-stream": ComponentKind.MESSAGE_STREAM,
}


def inspect(wasm: bytes) -> ComponentInfo:
    """Kind and WIT version; raises the ``SkillLoadError`` that says why the kernel can't run the
    component."""
    return inspect_names(*names(wasm))


def inspect_names(imports: list[str], exports: list[str]) -> ComponentInfo:
    """The same from the names alone."""
    info = _world(exports)
    for name in imports:
        if not _offered(name, info.line):
            raise UnsatisfiedImport(
                f"The component imports `{name}`, which the kernel does not offer to skills of "
                f"WIT {info.line}. Build it without that import."
            )
    return info


def names(wasm: bytes) -> tuple[list[str], list[str]]:
    """Names of the imports and exports, in order."""
    header = wasm[:8]
    if header[:4] != _MAGIC or len(header) < 8:
        raise NotAComponent(
            f"The file is not WebAssembly: it begins with {header[:4]!r}, expected {_MAGIC!r}."
            if wasm
            else "The file is empty."
        )
    if header[4:] == _MODULE:
        raise NotAComponent(
            "The file is a core WebAssembly module, not a component. Build it for the component "
            "model, for example for the target wasm32-wasip2."
        )
    if header[4:] != _COMPONENT:
        raise NotAComponent(
            f"The file has WebAssembly version bytes {header[4:].hex()}, which this kernel does "
            f"not know; components have {_COMPONENT.hex()}."
        )
    try:
        return _Reader(wasm, len(header)).names()
    except ValueError as error:
        raise CompileFailed(f"The component's binary is damaged: {error}.") from error


def custom_section(wasm: bytes, name: str) -> memoryview | None:
    """Content of the first custom section of that name, of a component that passed inspection."""
    for number, start, end in _Reader(wasm, len(_MAGIC + _COMPONENT)).sections():
        if number != _CUSTOM:
            continue
        # Not more than the name: the sections of debuggers are half of a component.
        head = _Reader(wasm[start : min(end, start + len(name) + _LONGEST_NUMBER)])
        try:
            found = head.string()
        except ValueError:  # another name: it is longer, or no text
            continue
        if found == name:
            return memoryview(wasm)[start + head.at : end]
    return None


def entry_interface(exports: list[str]) -> str | None:
    """The exported interface that makes the component a skill."""
    return next((name for name in exports if _kind(name)), None)


def _kind(name: str) -> tuple[ComponentKind, str] | None:
    """Kind and version of an exported interface that makes a component a skill."""
    match = _NAME.fullmatch(name)
    kind = _KINDS.get(match["interface"]) if match else None
    if match is None or kind is None:
        return None
    version = match["version"]
    if kind is ComponentKind.MESSAGE_STREAM and _parse(version) < _FIRST_WITH_STREAMS:
        return None
    return kind, version


def _world(exports: list[str]) -> ComponentInfo:
    for name in exports:
        if found := _kind(name):
            kind, version = found
            return ComponentInfo(kind, _supported(version))
    raise UnsupportedWorld(
        f"The component exports neither `{PACKAGE}/skill-handler` nor `{PACKAGE}/message-stream` "
        "in a version that has it"
        + (
            f"; it exports {', '.join(f'`{name[:100]}`' for name in exports[:5])}."
            if exports
            else "."
        )
    )


def _supported(version: str) -> str:
    parsed = _parse(version)
    line = f"{parsed[0]}.{parsed[1]}"
    newest = NEWEST.get(line)
    if newest and parsed <= _parse(newest):
        return version
    if newest or parsed > max(map(_parse, NEWEST.values())):
        raise WitTooNew(
            f"The skill is built for {PACKAGE}@{version}; the newest that this kernel runs is "
            f"{newest or list(NEWEST.values())[-1]}. Upgrade the kernel, or build with an older "
            "SDK."
        )
    raise WitTooOld(
        f"The skill is built for {PACKAGE}@{version}; the oldest line that this kernel runs is "
        f"{next(iter(NEWEST))}. Build it with a newer SDK."
    )


def _parse(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _offered(name: str, line: str) -> bool:
    match = _NAME.fullmatch(name)
    if not match:
        return False
    interface, version = match["interface"], match["version"]
    if interface in WASI_INTERFACES:
        return version.startswith("0.2.")
    return interface.startswith(f"{PACKAGE}/") and version.rpartition(".")[0] in NEWEST


class _Reader:
    """Reads the whole of a component, or of one of its sections."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def names(self) -> tuple[list[str], list[str]]:
        imports: list[str] = []
        exports: list[str] = []
        for section, start, end in self.sections():
            if section in (_IMPORTS, _EXPORTS):
                # A reader of its own: what lies in one section is not read as part of another.
                content = _Reader(self.data[start:end])
                if section == _IMPORTS:
                    imports += [content.import_() for _ in range(content.unsigned())]
                else:
                    exports += [content.export() for _ in range(content.unsigned())]
        return imports, exports

    def sections(self) -> Iterator[tuple[int, int, int]]:
        """Number of each section, and where its content begins and ends."""
        while self.at < len(self.data):
            section = self.byte()
            size = self.unsigned()
            start, end = self.at, self.at + size
            if end > len(self.data):
                raise ValueError(f"section {section} reaches beyond the end of the file")
            self.at = end
            yield section, start, end

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise ValueError("it ends in the middle of an item")
        self.at += 1
        return self.data[self.at - 1]

    def unsigned(self) -> int:
        """LEB128, at most 32 bits."""
        result = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
        raise ValueError("a number has more than 32 bits")

    def string(self) -> str:
        size = self.unsigned()
        text = self.data[self.at : self.at + size]
        if len(text) < size:
            raise ValueError("a name reaches beyond the end of the file")
        self.at += size
        return text.decode()

    def name(self) -> str:
        tag = self.byte()
        if tag > 1:
            raise ValueError(f"a name has the unknown form {tag}")
        return self.string()

    def import_(self) -> str:
        name = self.name()
        self.description()
        return name

    def export(self) -> str:
        name = self.name()
        if self.byte() == 0:  # a core sort has a second byte
            self.byte()
        self.unsigned()
        if self.byte():
            self.description()
        return name

    def description(self) -> None:
        """What kind of thing a name is bound to, and its type."""
        sort = self.byte()
        if sort == 0 or sort in (
            2,
            3,
        ):  # core module, value bound, type bound: one more byte of tag
            tag = self.byte()
            if sort == 3 and tag == 1:  # (sub resource) has no index
                return
        self.unsigned()
