"""Finds imports inside of functions: they run when it is too late to import anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FunctionImport:
    """A module that a line in a function imports; of ``from a import b`` also ``a.b``, which may be
    a name in ``a`` or a module."""

    name: str
    file: Path
    line: int
    certain: bool


def function_imports(file: Path, module: str) -> list[FunctionImport]:
    """Those of a source file, which is the given module."""
    tree = ast.parse(file.read_bytes(), str(file))
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found: dict[str, FunctionImport] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                for name, certain in _names(node, package):
                    line = getattr(node, "lineno", 0)
                    found.setdefault(name, FunctionImport(name, file, line, certain))
    return list(found.values())


def _names(node: ast.AST, package: str) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, True
    elif isinstance(node, ast.ImportFrom):
        module = _absolute(node, package)
        if module and module != "__future__":
            yield module, True
            for alias in node.names:
                if alias.name != "*":
                    yield f"{module}.{alias.name}", False


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])
