"""``pharia-sdk new``."""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from enum import Enum
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

_PLACEHOLDER = "my_skill"
"""The skill's name in the templates, which are working projects themselves."""
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_DOTTED = {"gitignore": ".gitignore"}
"""Files that would have a meaning for the templates themselves under their real names."""
_WITH_WIT = ("typescript", "rust", "go", "c")
"""These get the WIT, from which their toolchains generate bindings."""


class Template(str, Enum):
    """The projects that there are templates for."""

    PYTHON_FUNCTION = "python-function"
    PYTHON_STREAM = "python-stream"
    PYTHON_RAG = "python-rag"
    PYTHON_AGENT = "python-agent"
    TYPESCRIPT = "typescript"
    RUST = "rust"
    GO = "go"
    C = "c"


class NewError(Exception):
    """A project could not be made; the message says why, and what to do."""


def new_command(
    name: Annotated[str, typer.Argument(help="Name of the skill, such as `haiku`.")],
    template: Annotated[
        Template, typer.Option("--template", "-t", help="What to start with.")
    ] = Template.PYTHON_FUNCTION,
    folder: Annotated[
        Path | None, typer.Option(help="Where to make the project; by default ./NAME.")
    ] = None,
) -> None:
    """Start a project: a skill that works, its tests, and how to build it."""
    target = folder or Path(name)
    try:
        files = create(name, template, target)
    except NewError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{target}: a {template.value} skill")
    for file in files:
        typer.echo(f"  {file}")
    typer.echo("Go on with:")
    for step in [f"cd {shlex.quote(str(target))}", *next_steps(target)]:
        typer.echo(f"  {step}")


def create(name: str, template: Template, target: Path) -> list[str]:
    """Writes the template to the folder ``target``, which must be new or empty; the paths of its
    files. Raises ``NewError``."""
    module = _module(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise NewError(f"{target} exists already. Choose another name, or another --folder.")
    package = resources.files("pharia_kernel_sdk")
    source = package / "templates" / template.value.replace("-", "_")
    files = {
        _DOTTED.get(path, path): _renamed(file.read_text("utf-8"), module)
        for path, file in _files(source)
    }
    if template.value in _WITH_WIT:
        files["wit/skill.wit"] = (package / "wit" / "skill.wit").read_text("utf-8")
    written = sorted(_renamed(path, module) for path in files)
    for path, text in files.items():
        file = target / _renamed(path, module)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return written


def next_steps(project: Path) -> list[str]:
    """The commands that the README of a project tells, with what it says about them."""
    readme = (project / "README.md").read_text("utf-8")
    commands = readme.split("```console\n")[1].split("```")[0]
    return [line.removeprefix("$ ") for line in commands.splitlines()]


def _module(name: str) -> str:
    """The name as the module, the function and the component have it."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(module) or keyword.iskeyword(module):
        raise NewError(
            f"`{name}` can't be the name of a skill. Use lower-case letters, digits and `_`, "
            "beginning with a letter, and no word that Python reserves."
        )
    if module in sys.stdlib_module_names or module in ("tests", "test", "pharia_kernel_sdk"):
        raise NewError(f"There is a module `{module}` in Python or here already. Choose another.")
    return module


def _renamed(text: str, module: str) -> str:
    dashed = _PLACEHOLDER.replace("_", "-")
    return text.replace(_PLACEHOLDER, module).replace(dashed, module.replace("_", "-"))


def _files(folder: Traversable, prefix: str = "") -> list[tuple[str, Traversable]]:
    found = []
    for item in folder.iterdir():
        if item.name == "__pycache__" or item.name.endswith(".pyc"):
            continue
        path = f"{prefix}{item.name}"
        found += _files(item, f"{path}/") if item.is_dir() else [(path, item)]
    return found
