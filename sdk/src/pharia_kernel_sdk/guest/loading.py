"""How the author's modules get into a component.

The component is initialized in two steps (``build.images``): Python and this SDK first, once for
all skills; the author's module when it is built. During the second step the host is the build, and
hands out sources when they are imported, disguised as a tool. So what ends up in the component does
not depend on where files lie or when they were written, and the build learns what was imported.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import linecache
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec
from types import ModuleType
from typing import Any

from pharia_kernel_sdk.declaration import Declaration, declared_in
from pharia_kernel_sdk.failures import headline, summary, whole
from pharia_kernel_sdk.guest.bindings import Ok, tool
from pharia_kernel_sdk.guest.objects import addresses

FIND = "find-module"
AUTHOR_FOLDER = "/app/"

author_files: dict[str, str] = {}
"""Names as tracebacks have them, and as the author knows them."""


class NotInComponentError(ModuleNotFoundError):
    """A module is imported for the first time while the skill runs."""


class _Finder:
    """Finds modules by asking the build, as long as it is there."""

    def __init__(self) -> None:
        self.open = True

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.open:
            raise NotInComponentError(
                f"The module `{name}` is not in this component. Import it at the top of the "
                "skill's file, so that the build finds it.",
                name=name,
            )
        found = _ask(name)
        if found is None:
            return None
        spec = ModuleSpec(name, _Loader(found), origin=found["file"], is_package=found["package"])
        spec.has_location = True
        if found["package"]:
            spec.submodule_search_locations = [found["file"].rpartition("/")[0]]
        return spec


class _Loader(Loader):
    def __init__(self, found: dict[str, Any]) -> None:
        self._file = found["file"]
        self._source = found["source"]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if self._file.startswith(AUTHOR_FOLDER):
            author_files[self._file] = self._file.removeprefix(AUTHOR_FOLDER)
            lines = self._source.splitlines(keepends=True)
            # Without a time, the lines are not compared with a file that is not there.
            linecache.cache[self._file] = (len(self._source), None, lines, self._file)
        exec(compile(self._source, self._file, "exec", dont_inherit=True), module.__dict__)  # noqa: S102


def _ask(name: str) -> dict[str, Any] | None:
    argument = tool.Argument("name", json.dumps(name).encode())
    (answer,) = tool.invoke_tool([tool.InvokeRequest(FIND, [argument])])
    if not isinstance(answer, Ok):
        return None
    found: dict[str, Any] = json.loads(answer.value[0].value)
    return found


def load(request: bytes) -> tuple[bytes, Declaration | None]:
    """Imports the module that the build asks for; answers in JSON, and with the skill in it.

    If it asks for none, the answer is the ``listing``.
    """
    asked = json.loads(request)
    if "module" not in asked:
        return listing(), None
    finder = _Finder()
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, finder]
    sys.path[:] = asked["path"]
    sys.path_importer_cache.clear()
    sys.dont_write_bytecode = True
    try:
        module = importlib.import_module(asked["module"])
        failed = [name for name in asked["preload"] if not _preload(name)]
    except BaseException as error:
        answer = {"error": summary(error, author_files), "whole": whole(error)}
        return json.dumps({**answer, "kind": headline(error)}).encode(), None
    finally:
        finder.open = False
    (declaration,) = declared_in(vars(module), module.__name__)
    _prepare(declaration)
    # What is here now lives as long as the component. The collector never has to look at it again,
    # so a run does not touch, and so copy, its memory.
    gc.collect()
    objects = addresses()
    gc.freeze()
    return json.dumps({"failed": failed, "objects": objects}).encode(), declaration


def listing() -> bytes:
    """JSON: Python's version, and the addresses of the image's objects."""
    gc.unfreeze()
    return json.dumps({"python": sys.version_info[:2], "objects": addresses()}).encode()


def _preload(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _prepare(declaration: Declaration) -> None:
    """What would be made at the first run is made now."""
    _ = declaration.input_shape
    if declaration.output is not None:
        _ = declaration.output_shape
