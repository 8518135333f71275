"""The SDK as griffe reads it: from the sources, so that nothing depends on the Python that runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import griffe

SDK = "pharia_kernel_sdk"
_SOURCES = Path(__file__).resolve().parents[2] / "sdk" / "src"
_LONGEST_LINE = 90
_PREFIXES: dict[griffe.ParameterKind | None, str] = {
    griffe.ParameterKind.var_positional: "*",
    griffe.ParameterKind.var_keyword: "**",
}
_FACTORIES = {"list()": "[]", "dict()": "{}"}

Definition = griffe.Class | griffe.Function | griffe.Attribute


class UndocumentedError(Exception):
    """A public name says nothing of itself, or is on no page. The message names it."""


@cache
def package() -> griffe.Module:
    loaded = griffe.load(SDK, search_paths=[_SOURCES], allow_inspection=False)
    assert isinstance(loaded, griffe.Module)
    return loaded


@cache
def find(name: str) -> Definition:
    """A class, function or constant by its name below the package: ``Csi.chat``,
    ``testing.StubCsi``."""
    found: griffe.Object | griffe.Alias = package()
    for part in name.split("."):
        member = found.members[part]
        found = member.final_target if isinstance(member, griffe.Alias) else member
    assert isinstance(found, Definition)
    return found


def exported(module: str = "") -> list[str]:
    """The names in ``__all__`` of the package or of a module, as ``find`` takes them."""
    owner = package()[module] if module else package()
    prefix = f"{module}." if module else ""
    return [f"{prefix}{name}" for name in owner.exports or () if not str(name).startswith("__")]


def docs(definition: griffe.Object | griffe.Alias) -> str:
    """The docstring. Raises ``UndocumentedError``."""
    if definition.docstring is None:
        raise UndocumentedError(f"{definition.path} has no docstring.")
    return definition.docstring.value


def is_enum(owner: griffe.Class) -> bool:
    return "Enum" in [str(base) for base in owner.bases]


def constants(enum: griffe.Class) -> Iterator[tuple[str, str]]:
    """Names and values of an enum."""
    for name, member in enum.members.items():
        if isinstance(member, griffe.Attribute) and not _is_property(member):
            yield name, quoted(member.value)


def attributes(owner: griffe.Class) -> Iterator[griffe.Attribute]:
    """Public attributes, those of a dataclass in the order of its parameters."""
    for name, member in _members(owner).items():
        if not isinstance(member, griffe.Attribute) or _is_property(member):
            continue
        if not name.startswith("_"):
            yield member


def methods(owner: griffe.Class) -> Iterator[griffe.Function | griffe.Attribute]:
    """Documented public methods and properties, also those of bases that are not public."""
    return (method for method in _public_methods(owner) if method.docstring is not None)


def undocumented(owner: griffe.Class) -> Iterator[str]:
    """Public methods without a docstring, except for those that fulfil the promise of a base."""
    for method in _public_methods(owner):
        if method.docstring is None and not any(method.name in b.members for b in owner.mro()):
            yield method.path


def signature(function: griffe.Function, name: str) -> str:
    """As it stands in the source, without ``self``. Long ones have a line for each parameter."""
    short = short_signature(function, name)
    if len(short) <= _LONGEST_LINE:
        return short
    return _lines(name, _parameters(function.parameters), _returns(function))


def short_signature(function: griffe.Function, name: str) -> str:
    """In one line."""
    return f"{name}({', '.join(_parameters(function.parameters))}){_returns(function)}"


def constructor(owner: griffe.Class) -> str:
    """How to make one; nothing if there is nothing to pass, or where others make them."""
    parameters = _parameters(owner.parameters)
    if not parameters or "__call__" in owner.members:
        return ""
    short = f"{owner.name}({', '.join(parameters)})"
    return short if len(short) <= _LONGEST_LINE else _lines(owner.name, parameters)


def quoted(value: object) -> str:
    """An expression with the quotes that formatters use."""
    return str(value).replace("'", '"')


def _is_property(member: griffe.Object | griffe.Alias) -> bool:
    return "property" in member.labels


def _members(owner: griffe.Class) -> dict[str, griffe.Object | griffe.Alias]:
    private = [base for base in owner.mro() if base.name.startswith("_")]
    members: dict[str, griffe.Object | griffe.Alias] = {}
    for each in (owner, *private):
        members = {**each.members, **members}
    return members


def _public_methods(owner: griffe.Class) -> Iterator[griffe.Function | griffe.Attribute]:
    for name, member in _members(owner).items():
        if isinstance(member, griffe.Function) or _is_property(member):
            assert isinstance(member, griffe.Function | griffe.Attribute)
            if not name.startswith("_"):
                yield member


def _parameters(parameters: griffe.Parameters) -> list[str]:
    spelled: list[str] = []
    keywords_only = False
    for parameter in parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not keywords_only:
            spelled.append("*")
            keywords_only = True
        keywords_only |= parameter.kind is griffe.ParameterKind.var_positional
        spelled.append(_parameter(parameter))
    return spelled


def _parameter(parameter: griffe.Parameter) -> str:
    prefix = _PREFIXES.get(parameter.kind, "")
    annotation = "" if parameter.annotation is None else f": {parameter.annotation}"
    default = "" if prefix or parameter.default is None else f" = {_default(parameter.default)}"
    return quoted(f"{prefix}{parameter.name}{annotation}{default}")


def _default(value: str | griffe.Expr) -> str:
    """As an author would write it; constants of the SDK by their value."""
    if isinstance(value, griffe.ExprName) and value.canonical_path.startswith(f"{SDK}."):
        constant = find(value.canonical_path.removeprefix(f"{SDK}."))
        return str(constant.value) if isinstance(constant, griffe.Attribute) else str(value)
    return _FACTORIES.get(str(value), str(value))


def _returns(function: griffe.Function) -> str:
    return "" if function.returns is None else f" -> {quoted(function.returns)}"


def _lines(name: str, parameters: list[str], returns: str = "") -> str:
    return "".join([f"{name}(\n", *(f"    {each},\n" for each in parameters), f"){returns}"])
