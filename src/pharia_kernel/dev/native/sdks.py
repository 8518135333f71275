"""The two SDKs for Python: what they make of a module, and the bindings below them.

Both come with code that runs in components only, between the author's function and generated
bindings. That very code runs here, over bindings that make system calls of their own. So what a
skill sees, and what the kernel sees of it, is the same in development as in a component.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from . import bindings
from .loading import Author

_PACKAGE = re.compile(r"^package (?P<name>[\w:-]+)@?(?P<version>[^;]*);", re.M)
_WORLD = """\
package pharia:dev;

world everything {
    include pharia:sdk/function;
    include pharia:sdk/message-stream;
}
"""
_COMPONENTIZE = "import sys; from componentize_py import script; sys.exit(script())"


class NoSkill(Exception):
    """The module has not exactly one skill; the message says what to do."""


@dataclass(frozen=True)
class Skill:
    """A skill, as its component would export it."""

    kind: str
    """``function`` or ``message_stream``."""
    wit_version: str
    run: Callable[[bytes], bytes]
    """Raises the binding's ``Err`` with the case of the error."""
    metadata: Callable[[], Any]
    input_schema: Any
    """JSON Schema; None if it is not known."""
    section: Any = None
    """JSON that the build writes into the component's custom section, if it does."""


@dataclass(frozen=True)
class Surroundings:
    """What the bindings need."""

    host: bindings.Host
    folder: Path
    """Where generated bindings can be kept."""
    newest: Mapping[str, str]
    """Versions of the WIT lines that the kernel serves, such as 0.4: 0.4.0."""

    def interface(self, module: str, version: str) -> str:
        """Full name of the interface, as frames have it."""
        line = version.rpartition(".")[0]
        return f"pharia:skill/{module.replace('_', '-')}@{self.newest.get(line, version)}"


def skill_in(module: ModuleType, author: Author, around: Surroundings) -> Skill:
    """The skill of the author's imported module, bound to the host. Raises ``NoSkill``."""
    if "SkillHandler" in vars(module) or "MessageStream" in vars(module):
        return _of_published_sdk(module, around)
    if "pharia_kernel_sdk" in sys.modules:
        return _of_kernel_sdk(module, author, around)
    raise NoSkill(
        "it has no skill. Decorate a function with `@skill` or `@message_stream` of "
        "pharia_kernel_sdk (or of pharia_skill)"
    )


# --- pharia_kernel_sdk ----------------------------------------------------------------------------


def _of_kernel_sdk(module: ModuleType, author: Author, around: Surroundings) -> Skill:
    declaration = importlib.import_module("pharia_kernel_sdk.declaration")
    found = declaration.declared_in(vars(module), module.__name__)
    if len(found) != 1:
        raise NoSkill(_count(found))
    version = importlib.import_module("pharia_kernel_sdk.version").WIT
    _bind_kernel_sdk(version, around)
    streams = found[0].kind == "message-stream"
    entry_name = "entry_stream" if streams else "entry_function"
    entry = importlib.import_module(f"pharia_kernel_sdk.guest.{entry_name}")
    entry.runner.adopt(found[0], {file: author.short(file) for file in author.files})
    section = found[0].metadata()
    schema = section["input_schema"]
    if streams:
        run = _streaming(entry.MessageStream(), importlib.import_module(_KERNEL_STREAMS))
        return Skill("message_stream", version, run, lambda: None, schema, section)
    handler = entry.SkillHandler()
    return Skill("function", version, handler.run, handler.metadata, schema, section)


_KERNEL_STREAMS = "wit_world.imports.streaming_output"


def _count(found: list[Any]) -> str:
    if not found:
        return (
            "it has no skill. Decorate a function with `@skill` or `@message_stream` of "
            "pharia_kernel_sdk"
        )
    names = ", ".join(f"`{skill.name}`" for skill in found)
    return f"it has {len(found)} skills: {names}. A component is one skill; use a file for each"


def _bind_kernel_sdk(version: str, around: Surroundings) -> None:
    images = importlib.import_module("pharia_kernel_sdk.build.images")
    renamed = {name: interface for interface, name in images.INTERFACES.items()}
    folder = around.folder / "pharia_kernel_sdk"
    if not folder.is_dir():
        _generate(Path(str(images.__file__)).parents[1] / "wit", images.INTERFACES, folder)
    sys.path.append(str(folder))
    for name, module in _modules("wit_world.imports"):
        full = renamed.get(name, f"pharia:skill/{name}@{version}")
        interface, _, wit_version = full.partition("/")[2].partition("@")
        bindings.bind(module, around.interface(interface, wit_version), around.host)


def _generate(wit: Path, renamed: Mapping[str, str], folder: Path) -> None:
    """Python bindings of all that a function and a message stream import and export."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as staging:
        world = Path(staging) / "wit"
        for file in wit.glob("*.wit"):
            target = world / "deps" / file.stem
            target.mkdir(parents=True)
            shutil.copyfile(file, target / file.name)
        (world / "everything.wit").write_text(_WORLD)
        names = [
            option
            for interface, name in renamed.items()
            for option in ("--import-interface-name", f"{interface}={name}")
        ]
        made = Path(staging) / "made"
        subprocess.run(
            [
                sys.executable, "-c", _COMPONENTIZE, "-q", "-d", str(world),
                "-w", "pharia:dev/everything", "--world-module", "wit_world",
                *names, "bindings", str(made),
            ],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise


# --- pharia_skill ---------------------------------------------------------------------------------


def _of_published_sdk(module: ModuleType, around: Surroundings) -> Skill:
    package = importlib.import_module("pharia_skill")
    wit = Path(str(package.__file__)).parent / "wit" / "skill.wit"
    header = _PACKAGE.search(wit.read_text())
    assert header, wit
    version = header["version"]
    for name, imported in _modules("pharia_skill.bindings.imports"):
        bindings.bind(imported, around.interface(name, version), around.host)
    if stream := vars(module).get("MessageStream"):
        outputs = importlib.import_module("pharia_skill.bindings.imports.streaming_output")
        return Skill("message_stream", version, _streaming(stream(), outputs), lambda: None, None)
    handler = vars(module)["SkillHandler"]()
    schema = json.loads(handler.metadata().input_schema)
    return Skill("function", version, handler.run, handler.metadata, schema)


# --- both -----------------------------------------------------------------------------------------


def _streaming(handler: Any, outputs: Any) -> Callable[[bytes], bytes]:
    def run(input_: bytes) -> bytes:
        handler.run(input_, outputs.StreamOutput())
        return b""

    return run


def _modules(package: str) -> list[tuple[str, ModuleType]]:
    """The bindings of the imported interfaces, by name."""
    path = importlib.import_module(package).__path__
    names = [found.name for found in pkgutil.iter_modules(path)]
    return [(name, importlib.import_module(f"{package}.{name}")) for name in names]
