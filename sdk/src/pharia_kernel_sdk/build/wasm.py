"""Reads and writes WebAssembly binaries, as far as the build needs it.

The layout of core modules is in the core specification (chapter Binary Format), that of components
in the component model's design/mvp/Binary.md. Sections that the build does not touch are passed on
byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

CORE = b"\0asm\x01\0\0\0"
COMPONENT = b"\0asm\x0d\0\x01\0"

CUSTOM = 0
CORE_MODULE, NESTED_COMPONENT = 1, 4
"""Sections of a component that hold whole modules and components."""


class MalformedError(Exception):
    """Bytes are not what the build expects of a module or component."""


@dataclass(frozen=True)
class Section:
    """Number and content of a section."""

    id: int
    body: bytes

    @property
    def name(self) -> str:
        """Of a custom section."""
        return Reader(self.body).name()

    def encode(self) -> bytes:
        return bytes([self.id]) + unsigned(len(self.body)) + self.body


class Reader:
    """Reads values one after another."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)

    def byte(self) -> int:
        if self.done:
            raise MalformedError("it ends in the middle of an item")
        self.at += 1
        return self.data[self.at - 1]

    def unsigned(self) -> int:
        """LEB128."""
        result = 0
        for shift in range(0, 64, 7):
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
        raise MalformedError("a number is too long")

    def bytes(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise MalformedError("it ends in the middle of an item")
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        return self.bytes(self.unsigned()).decode()

    def count(self) -> Iterator[int]:
        """Counts the items of a vector."""
        return iter(range(self.unsigned()))


def sections(binary: bytes) -> Iterator[Section]:
    """The sections of a module or component, in order. Raises ``MalformedError``."""
    if binary[:8] not in (CORE, COMPONENT):
        raise MalformedError("it is neither a core module nor a component")
    reader = Reader(binary, 8)
    while not reader.done:
        number = reader.byte()
        yield Section(number, reader.bytes(reader.unsigned()))


def assemble(preamble: bytes, parts: Iterable[Section]) -> bytes:
    """The opposite of ``sections``."""
    return b"".join([preamble, *(part.encode() for part in parts)])


def custom(name: str, content: bytes) -> Section:
    return Section(CUSTOM, string(name) + content)


def custom_section(binary: bytes, name: str) -> bytes | None:
    """Content of the first custom section of that name at the top level."""
    for section in sections(binary):
        if section.id == CUSTOM and section.name == name:
            reader = Reader(section.body)
            reader.name()
            return section.body[reader.at :]
    return None


def stripped(binary: bytes) -> bytes:
    """Without debug information and names, those of nested modules and components included.

    What a linker or a runtime acts upon stays: ``dylink.0`` and the ``component-type`` sections.
    """
    return assemble(binary[:8], _stripped(sections(binary)))


def _stripped(parts: Iterable[Section]) -> Iterator[Section]:
    for section in parts:
        if section.id == CUSTOM and _is_debug(section.name):
            continue
        # Core sections use the same numbers for other things, but no preamble begins their bodies.
        if section.id in (CORE_MODULE, NESTED_COMPONENT) and section.body[:4] == b"\0asm":
            yield Section(section.id, stripped(section.body))
        else:
            yield section


def _is_debug(name: str) -> bool:
    return name in ("name", "component-name", "producers") or name.startswith((".debug", "reloc."))


def unsigned(number: int) -> bytes:
    """LEB128."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def signed(number: int) -> bytes:
    """LEB128."""
    encoded = bytearray()
    while not -0x40 <= number < 0x40:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number & 0x7F)
    return bytes(encoded)


def string(text: str) -> bytes:
    encoded = text.encode()
    return unsigned(len(encoded)) + encoded


def vector(items: list[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)
