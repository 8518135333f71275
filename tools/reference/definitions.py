"""Definitions of the SDK as sections of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import griffe

from tools.reference import library
from tools.reference import markdown as md
from tools.reference.library import SDK, Definition

_PLAIN_BASES = frozenset({"ABC", "Generic", "Protocol", "Enum", "str", "object"})


class Sections:
    """Sections for some names, as ``library.find`` takes them. Methods that are among them, such as
    ``Csi.chat``, have sections of their own; others stand with their class."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._paths = {library.find(name).path: name for name in names}

    def check(self, *modules: str) -> None:
        """Whether all that the modules export is there, and says what it is for. Raises
        ``UndocumentedError``."""
        exported = [library.find(name) for each in modules for name in library.exported(each)]
        expected = {definition.path for definition in exported}
        for owner in self._apart():
            expected |= {method.path for method in library.methods(owner)}
        if missing := sorted(expected - set(self._paths)):
            raise library.UndocumentedError(f"On no page: {', '.join(missing)}")
        classes = [definition for definition in exported if isinstance(definition, griffe.Class)]
        if silent := [name for each in classes for name in library.undocumented(each)]:
            raise library.UndocumentedError(f"Without a docstring: {', '.join(silent)}")

    def title(self, name: str) -> str:
        """The name as it is used; with its module, if there is another one of that name."""
        short = self._short(name)
        others = [other for other in self._names if self._short(other) == short and other != name]
        return name if others and name not in library.exported() else short

    def link(self, name: str) -> str:
        return md.link(f"`{self.title(name)}`")

    def section(self, name: str) -> str:
        definition = library.find(name)
        return md.joined(
            md.heading(3, f"`{self.title(name)}`"),
            _imported(name),
            self._described(definition, self._short(name)),
        )

    def _short(self, name: str) -> str:
        return ".".join(name.rsplit(".", 2)[-2:]) if self._is_method(name) else _last(name)

    def _is_method(self, name: str) -> bool:
        return isinstance(library.find(name).parent, griffe.Class)

    def _apart(self) -> list[griffe.Class]:
        """Classes whose methods have sections of their own."""
        owners = [library.find(name).parent for name in self._names]
        return list({o.path: o for o in owners if isinstance(o, griffe.Class)}.values())

    def _described(self, definition: Definition, name: str) -> str:
        docs = md.prose(library.docs(definition))
        if isinstance(definition, griffe.Function):
            return md.joined(md.code(library.signature(definition, name), "python"), docs)
        if isinstance(definition, griffe.Attribute):
            return md.joined(md.code(definition.source, "python"), docs)
        if library.is_enum(definition):
            return md.joined(docs, _values(definition))
        made = library.constructor(definition)
        return md.joined(
            md.code(made, "python") if made else "",
            docs,
            _base(definition),
            md.table(("Attribute", "Meaning"), _attributes(definition)),
            self._methods(definition),
        )

    def _methods(self, owner: griffe.Class) -> str:
        methods = list(library.methods(owner))
        own_sections = [self._paths[m.path] for m in methods if m.path in self._paths]
        if own_sections:
            return f"Methods: {', '.join(self.link(name) for name in own_sections)}."
        return md.items(_method(method) for method in methods)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _imported(name: str) -> str:
    """Nothing for what the package itself exports."""
    owner, _, short = name.rpartition(".")
    if not owner or isinstance(library.find(name).parent, griffe.Class):
        return ""
    return md.code(f"from {SDK}.{owner} import {short}", "python")


def _values(enum: griffe.Class) -> str:
    values = (f"`{name}` = `{value}`" for name, value in library.constants(enum))
    return f"Values: {', '.join(values)}."


def _base(owner: griffe.Class) -> str:
    bases = [str(base).partition("[")[0] for base in owner.bases]
    public = [base for base in bases if base not in _PLAIN_BASES and not base.startswith("_")]
    return f"Base: {', '.join(f'`{base}`' for base in public)}." if public else ""


def _attributes(owner: griffe.Class) -> Iterator[tuple[str, str]]:
    for attribute in library.attributes(owner):
        if attribute.docstring is not None:
            yield f"`{attribute.name}`", md.prose(attribute.docstring.value)


def _method(method: griffe.Function | griffe.Attribute) -> str:
    if isinstance(method, griffe.Attribute):
        head = f"{method.name}: {method.annotation}"
    else:
        head = library.short_signature(method, _called(method))
    return f"`{head}`: {md.prose(library.docs(method))}"


def _called(method: griffe.Function) -> str:
    """Class methods are called on the class."""
    owner = method.parent
    if owner is None or "classmethod" not in method.labels:
        return method.name
    return f"{owner.name}.{method.name}"
