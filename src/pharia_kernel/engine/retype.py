"""Gives the entry functions of a component ``string`` where they have ``list<u8>``.

In the canonical ABI the two are the same: address and length in bytes, aligned to 1. In wasmtime's
C API they are not: each element of a list becomes a value of its own, 32 bytes or more, while a
string is copied as a whole. So the compiler is given the component with other types for its inputs
and outputs; the core modules, and with them the skill, stay as they are. The price is that what a
skill returns must be UTF-8, which its world asks for anyway: it is JSON.

Of a component, the types of its lifted functions are rewritten, and the small components that
toolchains wrap around these functions to name their types. Types of imports are not touched. The
layout is in the component model's design/mvp/Binary.md. What is not understood with certainty
stays as it is, and whether the rewritten binary is valid is for the compiler to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pharia_kernel.engine.signatures import ENTRIES_WITH_BYTES

RECIPE = "text-1"
"""Part of the name of what is compiled; to be changed with what this module writes."""

_PREAMBLE = b"\0asm\x0d\0\x01\0"
_LIST_OF_U8, _STRING = b"\x70\x7d", b"\x73"
_DEEPEST = 16
"""Scopes (components and types with declarations) within each other."""
_LONGEST = 64
"""Parts of a spelled type; the expected ones have fewer."""

_COMPONENT, _INSTANCES, _ALIASES, _TYPES, _CANONS, _IMPORTS, _EXPORTS = 4, 5, 6, 7, 8, 10, 11
_CUSTOM = 0
_OPAQUE_SECTIONS = {_CUSTOM, 1, 2, 3}
"""Custom sections, and core modules, instances and types: no component type is used in them."""
_WRAPPER_SECTIONS = {_CUSTOM, _TYPES, _IMPORTS, _EXPORTS}
_FUNCTION, _TYPE, _NESTED, _INSTANCE = 1, 3, 4, 5  # sorts

_PRIMITIVES = {
    0x7F: "bool", 0x7E: "s8", 0x7D: "u8", 0x7C: "s16", 0x7B: "u16", 0x7A: "s32", 0x79: "u32",
    0x78: "s64", 0x77: "u64", 0x76: "f32", 0x75: "f64", 0x74: "char", 0x73: "string",
}  # fmt: skip

_UTF8, _UTF16, _LATIN1 = 0, 1, 2
_ASYNC, _CALLBACK = 6, 7
_OPTIONS_WITH_INDEX = {3, 4, 5, _CALLBACK}
_PLAIN_OPTIONS = {_UTF8, _UTF16, _LATIN1, _ASYNC}


def with_text(wasm: bytes) -> bytes:
    """The component with strings for its entry functions' byte lists; ``wasm`` itself if it is not
    clear that both mean the same."""
    try:
        if not wasm.startswith(_PREAMBLE):
            return wasm
        places = _places(_component(_Reader(wasm, len(_PREAMBLE), len(wasm)), []))
        return _rewritten(wasm, 0, len(wasm), sorted(places)) if places else wasm
    except (_UnfamiliarError, IndexError):  # or an index that points nowhere
        return wasm


class _UnfamiliarError(Exception):
    """Something that this module does not know."""


# --- what is where --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Type:
    spelling: tuple[str | int, ...]
    """WIT text, with the indices of the types that it refers to. An empty one is opaque."""
    place: int | None = None
    """Offset in the file, of ``list<u8>`` only."""


_OPAQUE = _Type(("?",))


@dataclass(frozen=True)
class _Lift:
    type: int
    options: frozenset[int]


@dataclass
class _Scope:
    """Index spaces of a component, or of a component or instance type."""

    types: list[_Type] = field(default_factory=list)
    functions: list[_Lift | None] = field(default_factory=list)
    """None is one that is not lifted here."""
    components: list[_Scope | None] = field(default_factory=list)
    instances: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)
    """Instantiated component, and (sort, index) of its arguments."""
    held: set[int] = field(default_factory=set)
    """Types that are used by others than lifted functions, and have to stay."""
    sections: set[int] = field(default_factory=set)

    def spelled(self, index: int) -> str:
        """The type as WIT without names for types; cut off if it is long."""
        text: list[str] = []
        rest: list[str | int] = [index]
        while rest and len(text) < _LONGEST:
            part = rest.pop()
            if isinstance(part, str):
                text.append(part)
            else:
                rest += reversed(self.types[part].spelling)
        return "".join(text)

    def lists_in(self, indices: set[int]) -> set[int]:
        """Places of the ``list<u8>`` that these types are made of."""
        seen: set[int] = set()
        rest = list(indices)
        while rest:
            index = rest.pop()
            if index not in seen:
                seen.add(index)
                rest += [part for part in self.types[index].spelling if isinstance(part, int)]
        return {place for index in seen if (place := self.types[index].place) is not None}


def _places(component: _Scope) -> set[int]:
    """Offsets of the ``list<u8>`` that can become ``string``; either all of them or none."""
    lifts = {lift for lift in component.functions if lift is not None}
    entries = {lift for lift in lifts if component.spelled(lift.type) in ENTRIES_WITH_BYTES}
    if any(lift.options & {_UTF16, _LATIN1, _ASYNC, _CALLBACK} for lift in entries):
        return set()
    places = component.lists_in({lift.type for lift in entries})
    others = component.held | {lift.type for lift in lifts - entries}
    if places & component.lists_in(others):
        return set()
    for index, arguments in component.instances:
        if any(sort == _FUNCTION and component.functions[i] in entries for sort, i in arguments):
            wrapper = component.components[index]
            if wrapper is None or not wrapper.sections <= _WRAPPER_SECTIONS:
                return set()
            places |= wrapper.lists_in(set(range(len(wrapper.types))))
    return places


# --- writing --------------------------------------------------------------------------------------


def _rewritten(wasm: bytes, start: int, end: int, places: list[int]) -> bytes:
    """The component at ``start`` with strings at the places, which are in order."""
    chunks = [wasm[start : start + len(_PREAMBLE)]]
    reader = _Reader(wasm, start + len(_PREAMBLE), end)
    while reader.at < reader.end:
        begin = reader.at
        number, content = reader.section()
        inside = [place for place in places if content.at <= place < content.end]
        if not inside:
            chunks.append(wasm[begin : content.end])
            continue
        rewrite = _rewritten if number == _COMPONENT else _replaced
        body = rewrite(wasm, content.at, content.end, inside)
        chunks += [bytes([number]), _unsigned(len(body)), body]
    return b"".join(chunks)


def _replaced(wasm: bytes, start: int, end: int, places: list[int]) -> bytes:
    body = b""
    for place in places:
        body += wasm[start:place] + _STRING
        start = place + len(_LIST_OF_U8)
    return body + wasm[start:end]


def _unsigned(number: int) -> bytes:
    """LEB128."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


# --- reading --------------------------------------------------------------------------------------


class _Reader:
    """Reads a part of the file, and not beyond."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def byte(self) -> int:
        if self.at >= self.end:
            raise _UnfamiliarError
        self.at += 1
        return self.data[self.at - 1]

    def one_of(self, *known: int) -> int:
        byte = self.byte()
        if byte not in known:
            raise _UnfamiliarError
        return byte

    def unsigned(self) -> int:
        """LEB128, at most 32 bits."""
        result = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
        raise _UnfamiliarError

    def section(self) -> tuple[int, _Reader]:
        """Its number and its content."""
        number = self.byte()
        content = self.part()
        return number, content

    def part(self) -> _Reader:
        """What follows its own size."""
        size = self.unsigned()
        if self.at + size > self.end:
            raise _UnfamiliarError
        self.at += size
        return _Reader(self.data, self.at - size, self.at)

    def string(self) -> str:
        part = self.part()
        return self.data[part.at : part.end].decode(errors="replace")

    def name(self) -> None:
        """Of an import or export."""
        self.one_of(0, 1)
        self.part()

    def each(self) -> Iterator[int]:
        """Counts the items of a vector."""
        return iter(range(self.unsigned()))

    def sort(self) -> int:
        sort = self.byte()
        if sort == 0:  # a core sort has a second byte
            self.byte()
        return sort


def _component(reader: _Reader, outer: list[_Scope]) -> _Scope:
    """The component whose sections follow, within the scopes ``outer``."""
    scope = _Scope()
    scopes = [*outer, scope]
    if len(scopes) > _DEEPEST:
        raise _UnfamiliarError
    while reader.at < reader.end:
        number, content = reader.section()
        scope.sections.add(number)
        if number in _OPAQUE_SECTIONS:
            continue
        if number == _COMPONENT:
            _nested(content, scopes)
            continue
        read = _READERS.get(number)
        if read is None:
            raise _UnfamiliarError
        for _ in content.each():
            read(content, scopes)
        if content.at != content.end:
            raise _UnfamiliarError
    return scope


def _nested(content: _Reader, scopes: list[_Scope]) -> None:
    for expected in _PREAMBLE:
        content.one_of(expected)
    scopes[-1].components.append(_component(content, scopes))


def _instance(reader: _Reader, scopes: list[_Scope]) -> None:
    if reader.one_of(0, 1) == 1:
        for _ in reader.each():
            reader.name()
            reader.sort()
            reader.unsigned()
        return
    component = reader.unsigned()
    arguments = []
    for _ in reader.each():
        reader.part()
        arguments.append((reader.sort(), reader.unsigned()))
    scopes[-1].instances.append((component, arguments))


def _alias(reader: _Reader, scopes: list[_Scope]) -> None:
    scope = scopes[-1]
    sort = reader.sort()
    if reader.one_of(0, 1, 2) == 2:
        levels, index = reader.unsigned(), reader.unsigned()
        if sort == _TYPE:
            _hold(scopes[-1 - levels], index)
    else:
        reader.unsigned()
        reader.part()
    if sort == _FUNCTION:
        scope.functions.append(None)
    elif sort == _TYPE:
        scope.types.append(_OPAQUE)
    elif sort == _NESTED:
        scope.components.append(None)


def _canon(reader: _Reader, scopes: list[_Scope]) -> None:
    code = reader.one_of(0, 1, 2, 3, 4)
    if code > 1:  # resources
        reader.unsigned()
        return
    reader.one_of(0)
    reader.unsigned()
    options = frozenset(_option(reader) for _ in reader.each())
    if code == 0:
        lift = _Lift(reader.unsigned(), options)
        _check(scopes[-1], lift.type)
        scopes[-1].functions.append(lift)


def _option(reader: _Reader) -> int:
    option = reader.one_of(*_PLAIN_OPTIONS, *_OPTIONS_WITH_INDEX)
    if option in _OPTIONS_WITH_INDEX:
        reader.unsigned()
    return option


def _import(reader: _Reader, scopes: list[_Scope]) -> None:
    """Also an export of a type with declarations: what it names is defined thereby."""
    scope = scopes[-1]
    reader.name()
    sort, index = _extern(reader, scope)
    if sort == _FUNCTION:
        scope.functions.append(None)
    elif sort == _TYPE:
        scope.types.append(_OPAQUE if index is None else _Type((index,)))
    elif sort == _NESTED:
        scope.components.append(None)


def _export(reader: _Reader, scopes: list[_Scope]) -> None:
    """The export has an index of its own."""
    scope = scopes[-1]
    reader.name()
    sort, index = reader.sort(), reader.unsigned()
    if reader.one_of(0, 1):
        _extern(reader, scope)
    if sort == _FUNCTION:
        scope.functions.append(scope.functions[index])
    elif sort == _TYPE:
        _hold(scope, index)
        scope.types.append(_Type((index,)))
    elif sort == _NESTED:
        scope.components.append(scope.components[index])


def _extern(reader: _Reader, scope: _Scope) -> tuple[int, int | None]:
    """The sort of what a name is bound to, and the type that it refers to."""
    sort = reader.one_of(0, _FUNCTION, _TYPE, _NESTED, _INSTANCE)
    if sort == 0:
        reader.byte()
        reader.unsigned()
        return sort, None
    if sort == _TYPE and reader.one_of(0, 1) == 1:  # a resource
        return sort, None
    index = reader.unsigned()
    _hold(scope, index)
    return sort, index


def _hold(scope: _Scope, index: int) -> None:
    _check(scope, index)
    scope.held.add(index)


def _check(scope: _Scope, index: int) -> None:
    if index >= len(scope.types):
        raise _UnfamiliarError


# --- types ----------------------------------------------------------------------------------------


def _define_type(reader: _Reader, scopes: list[_Scope]) -> None:
    scopes[-1].types.append(_type(reader, scopes))


def _type(reader: _Reader, scopes: list[_Scope]) -> _Type:
    scope = scopes[-1]
    place = reader.at
    code = reader.byte()
    if code in _PRIMITIVES:
        return _Type((_PRIMITIVES[code],))
    match code:
        case 0x70:
            element = _value(reader, scope)
            return _Type(("list<", element, ">"), place if element == "u8" else None)
        case 0x6B:
            return _Type(("option<", _value(reader, scope), ">"))
        case 0x6A:
            ok, error = _optional(reader, scope), _optional(reader, scope)
            return _Type(("result<", ok, ", ", error, ">"))
        case 0x72:
            return _Type(("record { ", *_labelled(reader, scope), " }"))
        case 0x71:
            return _Type(("variant { ", *_cases(reader, scope), " }"))
        case 0x40:
            parameters = _labelled(reader, scope, named=False)
            return _Type(("func(", *parameters, ")", *_result(reader, scope)))
        case 0x69:
            reader.unsigned()
            return _Type(("own<stream-output>",))  # as ``signatures`` spells them all
    return _other_type(code, reader, scopes)


def _other_type(code: int, reader: _Reader, scopes: list[_Scope]) -> _Type:
    """Types that no entry function uses."""
    scope = scopes[-1]
    match code:
        case 0x68:  # borrow
            reader.unsigned()
            return _OPAQUE
        case 0x6F:  # tuple
            return _Type(("tuple<", *(_value(reader, scope) for _ in reader.each()), ">"))
        case 0x6E | 0x6D:  # flags, enum
            for _ in reader.each():
                reader.part()
            return _OPAQUE
        case 0x41 | 0x42:  # types with declarations
            inner = [*scopes, _Scope()]
            if len(inner) > _DEEPEST:
                raise _UnfamiliarError
            for _ in reader.each():
                _DECLARATIONS[reader.one_of(*_DECLARATIONS)](reader, inner)
            return _OPAQUE
        case 0x3F:  # resource
            reader.byte()
            if reader.one_of(0, 1):
                reader.unsigned()
            return _OPAQUE
    raise _UnfamiliarError


def _value(reader: _Reader, scope: _Scope) -> str | int:
    """The name of a primitive type, or the index of another."""
    first = reader.byte()
    if first in _PRIMITIVES:
        return _PRIMITIVES[first]
    if 0x40 <= first < 0x80:  # negative: another primitive type
        raise _UnfamiliarError
    reader.at -= 1
    index = reader.unsigned()
    _check(scope, index)
    return index


def _optional(reader: _Reader, scope: _Scope) -> str | int:
    return _value(reader, scope) if reader.one_of(0, 1) else "_"


def _labelled(reader: _Reader, scope: _Scope, *, named: bool = True) -> Iterator[str | int]:
    """Fields or parameters."""
    for i in reader.each():
        label = reader.string()
        yield (", " if i else "") + (f"{label}: " if named else "")
        yield _value(reader, scope)


def _cases(reader: _Reader, scope: _Scope) -> Iterator[str | int]:
    for i in reader.each():
        yield (", " if i else "") + reader.string()
        if reader.one_of(0, 1):
            yield from ("(", _value(reader, scope), ")")
        reader.one_of(0)


def _result(reader: _Reader, scope: _Scope) -> tuple[str | int, ...]:
    if reader.one_of(0, 1):
        reader.one_of(0)
        return ()
    return " -> ", _value(reader, scope)


_Read = Callable[[_Reader, list[_Scope]], None]

_DECLARATIONS: dict[int, _Read] = {1: _define_type, 2: _alias, 3: _import, 4: _import}

_READERS: dict[int, _Read] = {
    _INSTANCES: _instance,
    _ALIASES: _alias,
    _TYPES: _define_type,
    _CANONS: _canon,
    _IMPORTS: _import,
    _EXPORTS: _export,
}
