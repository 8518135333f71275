"""Imports the author's module under plain Python: most mistakes show here, in a tenth of a second.

Runs as a process of its own (``python -m pharia_kernel_sdk.build.probe ROOT MODULE``), because it
executes the author's code, and writes JSON to its standard output. The other half, ``run``, starts
it and reads the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.project import Project

if TYPE_CHECKING:
    from pharia_kernel_sdk.declaration import Declaration

_TIMEOUT = 120


@dataclass(frozen=True)
class Probe:
    """What the import showed."""

    metadata: dict[str, Any]
    modules: dict[str, str]
    """Files of the modules that it loaded, without those of Python itself."""
    path: list[str]
    """Where other packages are looked for."""


def run(project: Project) -> Probe:
    """Raises ``BuildError``."""
    # -P: the current folder has nothing to do with what the skill can import.
    command = [sys.executable, "-P", "-m", "pharia_kernel_sdk.build.probe"]
    try:
        done = subprocess.run(
            [*command, str(project.root), project.module],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(
            f"{project.file.name} took more than {_TIMEOUT} s to import. Work belongs in the "
            "skill's function, not at the top of the module."
        ) from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise BuildError(
            f"Importing {project.file.name} ended Python itself (status {done.returncode})."
        ) from None
    if "error" in answer:
        raise BuildError(answer["error"], answer.get("whole", ""))
    return Probe(answer["metadata"], answer["modules"], answer["path"])


def main() -> None:
    root, module = sys.argv[1:]
    answer_to = os.dup(1)
    os.dup2(2, 1)  # what the author's code prints is no part of the answer
    answer = _answer(root, module)
    with os.fdopen(answer_to, "w") as output:
        json.dump(answer, output)


def _answer(root: str, name: str) -> dict[str, Any]:
    before = set(sys.modules)
    try:
        found = load(root, name)
    except BuildError as error:
        return {"error": str(error), "whole": error.details}
    modules = {
        name: file
        for name, module in sys.modules.items()
        if (file := getattr(module, "__file__", None)) and (name not in before or _is_author(file))
    }
    return {
        "metadata": found.metadata(),
        "modules": {name: file for name, file in modules.items() if not _is_python(file)},
        "path": [entry for entry in sys.path if entry != root and not _is_python(entry)],
    }


def load(root: str, name: str) -> Declaration:
    """Imports the author's module ``name`` from the folder ``root`` into this process; the skill
    that it declares. Raises ``BuildError``."""
    import importlib

    from pharia_kernel_sdk.declaration import SkillDefinitionError, declared_in
    from pharia_kernel_sdk.failures import whole

    sys.path[:] = [root, *(entry for entry in sys.path if entry and entry != root)]
    try:
        module = importlib.import_module(name)
    except SkillDefinitionError as error:
        raise BuildError(str(error), whole(error)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BuildError(_import_error(error, root), whole(error)) from error
    _check_origin(module, root)
    found = declared_in(vars(module), name)
    if len(found) != 1:
        raise BuildError(_count_error(found, module))
    return found[0]


def _check_origin(module: Any, root: str) -> None:
    """Python has modules that were imported before the author's folder was looked into."""
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).resolve().is_relative_to(Path(root).resolve()):
        raise BuildError(
            f"There is a module `{module.__name__}` in Python already ({file or 'built in'}). "
            "Choose another name for the file."
        )


def _import_error(error: BaseException, root: str) -> str:
    import traceback

    from pharia_kernel_sdk.failures import headline

    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(root)]
    if isinstance(error, SyntaxError) and error.filename:
        line = f"\n    {error.text.strip()}" if error.text else ""
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}{line}"
    if not own:
        return headline(error)
    place = f"{own[-1].filename}:{own[-1].lineno}"
    line = f"\n    {own[-1].line}" if own[-1].line else ""
    return f"{place}: {headline(error)}{line}{_where_to_get(error)}"


def _where_to_get(error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    return (
        f"\n`{package}` is neither beside the skill nor installed for {sys.executable}, the Python "
        "that builds and runs it."
    )


def _count_error(found: list[Any], module: Any) -> str:
    file = module.__file__
    if not found:
        return (
            f"{file} has no skill. Decorate a function with `@skill` or `@message_stream` "
            "of pharia_kernel_sdk."
        )
    places = ", ".join(f"`{d.name}` (line {d.function.__code__.co_firstlineno})" for d in found)
    return (
        f"{file} has {len(found)} skills: {places}. A component is one skill; use a file for each."
    )


def _is_author(file: str) -> bool:
    return "site-packages" not in file


def _is_python(file: str) -> bool:
    """Whether it belongs to the standard library or to this SDK."""
    path = Path(file).resolve()
    own = Path(__file__).resolve().parents[1]
    if path.is_relative_to(own) or path == own.parent:
        return True
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    bundle = path.name.startswith("python3") and path.suffix == ".zip"
    return bundle or (path.is_relative_to(standard) and "site-packages" not in path.parts)


if __name__ == "__main__":
    main()
