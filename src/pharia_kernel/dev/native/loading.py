"""Imports the author's source, and tells mistakes by file and line."""

from __future__ import annotations

import importlib
import linecache
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

_PACKAGES = ("site-packages", "dist-packages")


class Broken(Exception):
    """The source can't be imported; the message names file, line and reason."""


class Author:
    """The folder of the author's modules, and which of them were imported."""

    def __init__(self, file: Path) -> None:
        """``file`` is the skill's module."""
        self.file = file.resolve()
        root, names = self.file.parent, [self.file.stem]
        while (root / "__init__.py").is_file():
            names.insert(0, root.name)
            root = root.parent
        self.root = root
        self.module = ".".join(names)
        self.files: list[str] = []
        """Those of imported modules, as tracebacks name them."""

    def owns(self, filename: str) -> bool:
        """Whether a file is the author's own: in the folder, and of no installed package."""
        path = Path(filename)
        return path.is_relative_to(self.root) and not self._is_installed(path)

    def short(self, filename: str) -> str:
        """As a component tells of the file."""
        return str(Path(filename).relative_to(self.root)) if self.owns(filename) else filename

    def _is_installed(self, path: Path) -> bool:
        inside = path.relative_to(self.root)
        if any(part in _PACKAGES for part in inside.parts):
            return True
        return path.is_relative_to(sys.prefix) and Path(sys.prefix).is_relative_to(self.root)

    def load(self) -> ModuleType:
        """Import the module, under the name that other modules of the folder know it by.

        Raises ``Broken``.
        """
        sys.path.insert(0, str(self.root))
        sys.path_hooks.insert(0, self._hook())
        sys.path_importer_cache.clear()
        try:
            return importlib.import_module(self.module)
        except SyntaxError as error:
            self.fail(f"{error.filename}:{error.lineno}", error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.fail(self.place(error), error)

    def fail(self, place: str | None, error: BaseException) -> NoReturn:
        headline = " ".join("".join(traceback.format_exception_only(error)[-1:]).split())
        text = f"{place or self.file}: {headline}"
        if place and str(error).startswith(f"{place}:"):  # SDKs name the place themselves
            raise Broken(str(error)) from error
        file, _, line = (place or "").rpartition(":")
        if source := linecache.getline(file, int(line) if line.isdigit() else 0).strip():
            text += f"\n    {source}"
        raise Broken(text + _where_to_get(error)) from error

    def place(self, error: BaseException) -> str | None:
        """The author's innermost line that led to the error."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if self.owns(frame.filename)]
        return f"{own[-1].filename}:{own[-1].lineno}" if own else None

    def _hook(self) -> Callable[[str], Any]:
        """Finds the author's modules, so that none is missed and none is taken from a cache."""
        files = self.files

        class Loader(SourceFileLoader):
            def path_stats(self, path: str | bytes) -> NoReturn:
                # Bytecode is compared by seconds; two edits can be closer to each other.
                raise OSError("no bytecode is kept of what is being edited")

            def exec_module(self, module: ModuleType) -> None:
                files.append(self.path)
                super().exec_module(module)

        native = (ExtensionFileLoader, EXTENSION_SUFFIXES)
        finder = FileFinder.path_hook(native, (Loader, SOURCE_SUFFIXES))

        def hook(path: str) -> Any:
            if not self.owns(path):
                raise ImportError(f"{path} is not the author's")
            return finder(path)

        return hook


def _where_to_get(error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    return (
        f"\n`{package}` is neither beside the skill nor installed for {sys.executable}; "
        "--python names another Python."
    )
