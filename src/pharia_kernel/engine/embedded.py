"""What a component says of itself in a custom section, for worlds that have no other place for it.

The section ``pharia-skill-metadata`` at the component's top level holds a JSON object with, all of
them optional, ``kind`` (``function`` or ``message-stream``), ``description``, ``input_schema`` and
``output_schema`` (JSON Schema). What else is in it is for others. It is no part of the contract
that a skill is run by: a component with a useless section is a component without one.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from pharia_kernel.engine.api import ComponentKind, EmbeddedMetadata
from pharia_kernel.engine.inspector import custom_section

SECTION = "pharia-skill-metadata"
MAX_SIZE = 1 << 20
"""Bytes. It stays in the kernel's memory for as long as the skill is configured."""
_KINDS = {
    "function": ComponentKind.FUNCTION,
    "message-stream": ComponentKind.MESSAGE_STREAM,
}


class UselessMetadata(Exception):
    """The message says what is wrong with the section."""


class _Section(Struct):
    kind: str | None = None
    description: str | None = None
    input_schema: Raw = Raw(b"null")
    output_schema: Raw = Raw(b"null")


def read(wasm: bytes, kind: ComponentKind) -> EmbeddedMetadata | None:
    """The section of a component of this kind, that passed inspection; none if it has none.

    Raises ``UselessMetadata``. Whether the schemas are schemas is not looked at.
    """
    content = custom_section(wasm, SECTION)
    return None if content is None else parse(content, kind)


def parse(content: bytes | memoryview, kind: ComponentKind) -> EmbeddedMetadata:
    """The same from the content of the section."""
    if len(content) > MAX_SIZE:
        raise UselessMetadata(f"it has {len(content)} bytes; {MAX_SIZE} are allowed")
    try:
        text = bytes(content).decode()  # msgspec looks at the structure only
        section = msgspec.json.decode(text, type=_Section)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError) as error:
        raise UselessMetadata(f"it is not the expected JSON: {error}") from None
    if section.kind is not None and _KINDS.get(section.kind) is not kind:
        raise UselessMetadata(
            f"it is about a skill of kind {section.kind[:50]!r}, but the component's is {kind}"
        )
    return EmbeddedMetadata(section.description, section.input_schema, section.output_schema)
