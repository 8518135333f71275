"""Where things are in a component: its index spaces, as far as an appended section needs them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pharia_kernel_sdk.build.wasm import (
    CORE_MODULE,
    NESTED_COMPONENT,
    MalformedError,
    Reader,
    sections,
)

_CORE_INSTANCES, _CORE_TYPES, _INSTANCES, _ALIASES, _TYPES, _CANONS = 2, 3, 5, 6, 7, 8
_IMPORTS, _EXPORTS = 10, 11
_SORTS = {1: "func", 2: "value", 3: "type", 4: "component", 5: "instance"}
_CORE_SORTS = {0: "func", 1: "table", 2: "memory", 3: "global", 16: "type", 17: "module"}
_CORE_SORTS[18] = "instance"
_CORE_EXPORTS = 7
_LIFT, _LOWER = 0, 1
_OPTIONS_WITH_INDEX = {3, 4, 5, 7}
_RESOURCE_FUNCTIONS = {2, 3, 4, 7}


@dataclass
class Anatomy:
    """Sizes of the index spaces of a component, and its core modules and their instances."""

    sizes: Counter[str] = field(default_factory=Counter)
    """By name; those of core sorts begin with ``core ``."""
    exports: list[frozenset[str]] = field(default_factory=list)
    """Names that each core module exports."""
    modules: list[int | None] = field(default_factory=list)
    """For each core instance the module that it is made from."""

    def instance_that_exports(self, *names: str) -> int:
        """The first core instance of a module with these exports."""
        for instance, module in enumerate(self.modules):
            if module is not None and self.exports[module].issuperset(names):
                return instance
        raise MalformedError(f"no module in it exports {', '.join(names)}")


def anatomy(component: bytes) -> Anatomy:
    """Raises ``MalformedError`` where the component has what toolchains don't produce."""
    found = Anatomy()
    for section in sections(component):
        reader = Reader(section.body)
        if section.id == CORE_MODULE:
            found.sizes["core module"] += 1
            found.exports.append(_exports(section.body))
        elif section.id == NESTED_COMPONENT:
            found.sizes["component"] += 1
        elif section.id in (_TYPES, _CORE_TYPES):
            found.sizes["type" if section.id == _TYPES else "core type"] += reader.unsigned()
        elif section.id in _READERS:
            for _ in reader.count():
                _READERS[section.id](reader, found)
    return found


def _exports(module: bytes) -> frozenset[str]:
    for section in sections(module):
        if section.id == _CORE_EXPORTS:
            reader = Reader(section.body)
            return frozenset(_core_export(reader) for _ in reader.count())
    return frozenset()


def _core_export(reader: Reader) -> str:
    name = reader.name()
    reader.byte()
    reader.unsigned()
    return name


def _core_instance(reader: Reader, found: Anatomy) -> None:
    found.sizes["core instance"] += 1
    if reader.byte() == 0:
        found.modules.append(reader.unsigned())
        for _ in reader.count():
            reader.name()
            reader.byte()
            reader.unsigned()
    else:
        found.modules.append(None)
        for _ in reader.count():
            _core_export(reader)


def _instance(reader: Reader, found: Anatomy) -> None:
    found.sizes["instance"] += 1
    if reader.byte() == 0:
        reader.unsigned()
        for _ in reader.count():
            reader.name()
            _sort(reader)
            reader.unsigned()
    else:
        for _ in reader.count():
            _extern_name(reader)
            _sort(reader)
            reader.unsigned()


def _alias(reader: Reader, found: Anatomy) -> None:
    found.sizes[_sort(reader)] += 1
    if reader.byte() == 2:  # of an enclosing component
        reader.unsigned()
        reader.unsigned()
    else:
        reader.unsigned()
        reader.name()


def _canon(reader: Reader, found: Anatomy) -> None:
    code = reader.byte()
    if code in _RESOURCE_FUNCTIONS:
        reader.unsigned()
        found.sizes["core func"] += 1
    elif code in (_LIFT, _LOWER):
        reader.byte()
        reader.unsigned()
        for _ in reader.count():
            if reader.byte() in _OPTIONS_WITH_INDEX:
                reader.unsigned()
        if code == _LIFT:
            reader.unsigned()
        found.sizes["func" if code == _LIFT else "core func"] += 1
    else:
        raise MalformedError(f"it uses the canonical function {code:#x}, which is not expected")


def _import(reader: Reader, found: Anatomy) -> None:
    _extern_name(reader)
    found.sizes[_described(reader)] += 1


def _export(reader: Reader, found: Anatomy) -> None:
    """An export is an item of its own in the index space."""
    _extern_name(reader)
    sort = _sort(reader)
    reader.unsigned()
    if reader.byte():
        _described(reader)
    found.sizes[sort] += 1


def _described(reader: Reader) -> str:
    sort = reader.byte()
    if sort == 0:
        reader.byte()
        reader.unsigned()
        return "core module"
    if sort in (2, 3) and reader.byte() == 1 and sort == 3:  # a resource type has no index
        return "type"
    reader.unsigned()
    return _SORTS[sort]


def _sort(reader: Reader) -> str:
    sort = reader.byte()
    return f"core {_CORE_SORTS[reader.byte()]}" if sort == 0 else _SORTS[sort]


def _extern_name(reader: Reader) -> str:
    reader.byte()
    return reader.name()


_READERS = {
    _CORE_INSTANCES: _core_instance,
    _INSTANCES: _instance,
    _ALIASES: _alias,
    _CANONS: _canon,
    _IMPORTS: _import,
    _EXPORTS: _export,
}
