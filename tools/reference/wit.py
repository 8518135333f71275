"""The page of the interface of components, from its WIT texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent

from pharia_kernel import wit
from tools.reference import markdown as md

_DOCS = re.compile(r"^\s*/// ?", re.M)
_NAME = re.compile(
    r"(?:(?:world|interface|record|variant|enum|flags|resource|type) )?%?([a-z0-9-]+)"
)
_INTRODUCTION = """
Skills are WebAssembly components that export one of the worlds below. The kernel serves this text
at `/skill.wit`, other versions at `/skill.wit?version=0.3`; components of all of them work. Where
bindings are generated from it, names are in the style of the language: `chat-stream` is
`chat_stream` in Python and Rust.
"""


@dataclass(frozen=True)
class _Item:
    """A declaration: its comment, and its text without that."""

    docs: str
    text: str

    @property
    def keyword(self) -> str:
        return self.text.partition(" ")[0]

    @property
    def name(self) -> str:
        match = _NAME.match(self.text)
        if match is None:
            raise ValueError(f"The WIT declares something without a name: {self.text!r}")
        return match[1]

    @property
    def inner(self) -> list[_Item]:
        return list(_items(self.text.partition("{")[2].rpartition("}")[0]))


def page() -> str:
    """``wit.md``, of the newest stable version."""
    version = wit.newest_stable()
    package, *items = _items(wit.text(version))
    interfaces = [item for item in items if item.keyword == "interface"]
    worlds = [item for item in items if item.keyword == "world"]
    return md.page(
        md.heading(1, "WIT"),
        f"The package `pharia:skill@{version}`. {md.line(package.docs)}",
        md.line(_INTRODUCTION),
        md.heading(2, "Worlds"),
        *(md.joined(md.heading(3, f"`{w.name}`"), w.docs, md.code(w.text, "wit")) for w in worlds),
        *(_interface(interface) for interface in interfaces),
    )


def _interface(interface: _Item) -> str:
    """Functions first: types are looked up from there."""
    inner = [item for item in interface.inner if item.keyword != "use"]
    functions = [item for item in inner if _is_function(item)]
    types = [item for item in inner if not _is_function(item)]
    return md.joined(
        md.heading(2, f"Interface `{interface.name}`"),
        interface.docs,
        *(_declaration(interface, item) for item in functions + types),
    )


def _is_function(item: _Item) -> bool:
    return re.match(r"%?[a-z0-9-]+:", item.text) is not None


def _declaration(interface: _Item, item: _Item) -> str:
    title = md.heading(3, f"`{interface.name}.{item.name}`")
    return md.joined(title, item.docs, md.code(item.text, "wit"))


def _items(text: str) -> Iterator[_Item]:
    """The declarations of a text or of a body, each of which ends with ``;`` or ``}``."""
    lines: list[str] = []
    depth = 0
    for row in dedent(text).strip("\n").splitlines():
        comment = row.lstrip().startswith("///")
        if not row.strip() and not depth:
            continue
        lines.append(row)
        if not comment:
            depth += row.count("{") - row.count("}")
            if not depth and row.rstrip().endswith((";", "}")):
                yield _item(lines)
                lines = []


def _item(lines: list[str]) -> _Item:
    own = next(i for i, row in enumerate(lines) if not row.startswith("///"))
    docs = _DOCS.sub("", "\n".join(lines[:own]))
    text = "\n".join(row for row in lines[own:] if not row.startswith("@"))
    return _Item(docs, text)
