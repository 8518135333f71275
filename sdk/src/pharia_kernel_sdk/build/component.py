"""Builds a skill: from an author's module to a component."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pharia_kernel_sdk import version
from pharia_kernel_sdk.build import images, probe, snapshot, wasm
from pharia_kernel_sdk.build.advice import advice
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.function_imports import FunctionImport, function_imports
from pharia_kernel_sdk.build.preload import Preloaded, preload
from pharia_kernel_sdk.build.project import Project
from pharia_kernel_sdk.build.sources import Sources
from pharia_kernel_sdk.declaration import Kind

METADATA_SECTION = "pharia-skill-metadata"
"""Custom section with JSON: ``kind``, ``name``, ``description``, ``input_schema``,
``output_schema``, ``sdk`` and ``wit_version``."""

Progress = Callable[[str], None]
"""Gets what is being done, as it begins."""


@dataclass(frozen=True)
class Built:
    """A component, and what is worth knowing about it."""

    file: Path
    size: int
    seconds: float
    metadata: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    """Those that the skill imported, besides the ones that every component has."""

    @property
    def kind(self) -> Kind:
        kind: Kind = self.metadata["kind"]
        return kind

    @property
    def wit_version(self) -> str:
        return version.WIT


def build(project: Project, output: Path, progress: Progress = lambda _: None) -> Built:
    """Writes the component of the project's skill. Raises ``BuildError``."""
    started = time.monotonic()
    progress("Checking the code")
    found = probe.run(project)
    kind: Kind = found.metadata["kind"]
    toolchain = "pydantic" if "pydantic" in found.modules else "plain"
    if images.existing(kind, toolchain) is None:
        progress("Preparing Python for components (once for this version of the SDK)")
    image = images.get(kind, toolchain)
    progress("Importing the code in the component")
    own = [image.packages] if toolchain == "pydantic" else []
    sources = Sources(
        app=project.root,
        standard=image.standard_library,
        packages=[*own, *(Path(entry) for entry in found.path if Path(entry).is_dir())],
        known=found.modules,
    )
    lazy = _lazy_imports(project, found.modules)
    printed: list[bytes] = []
    try:
        loaded = preload(image, kind, project.module, sorted(lazy), sources, printed.append)
    except BuildError as error:
        raise _explained(error, sources, project) from error
    finally:
        sys.stderr.write(b"".join(printed).decode(errors="replace"))
    progress("Writing the component")
    component = _component(image, loaded, found.metadata)
    _write(output, component)
    return Built(
        output,
        len(component),
        time.monotonic() - started,
        found.metadata,
        _warnings(loaded, lazy, sources),
        sources.served,
    )


def metadata_of(component: bytes) -> dict[str, Any] | None:
    """What ``build`` noted in a component; None if it was built in another way."""
    section = wasm.custom_section(component, METADATA_SECTION)
    return None if section is None else dict(json.loads(section))


def _component(image: images.Image, loaded: Preloaded, metadata: dict[str, Any]) -> bytes:
    component = snapshot.with_memory(image.component.read_bytes(), loaded.memory)
    # In the author's order, in which forms show the fields.
    note = json.dumps(metadata, ensure_ascii=False).encode()
    return component + wasm.custom(METADATA_SECTION, note).encode()


def _write(output: Path, component: bytes) -> None:
    """In one step, so that a kernel that watches the folder sees whole files only."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    unfinished.write_bytes(component)
    unfinished.replace(output)


def _lazy_imports(project: Project, modules: dict[str, str]) -> dict[str, FunctionImport]:
    """Imports in functions of the author's modules, by name."""
    own = {name: Path(file) for name, file in modules.items() if file.endswith(".py")}
    found: dict[str, FunctionImport] = {}
    for name, file in own.items():
        if file.is_relative_to(project.root) and "site-packages" not in file.parts:
            for imported in function_imports(file, name):
                found.setdefault(imported.name, imported)
    return found


def _warnings(loaded: Preloaded, lazy: dict[str, FunctionImport], sources: Sources) -> list[str]:
    warnings = []
    for name in loaded.failed:
        imported = lazy[name]
        if imported.certain:
            reason = "is compiled" if name in sources.native else "is not there"
            warnings.append(
                f"{imported.file.name}:{imported.line}: `{name}` {reason}, so this line will fail "
                f"in the component: {advice(name)}."
            )
    return warnings


def _explained(error: BuildError, sources: Sources, project: Project) -> BuildError:
    """What to do about an import that works under plain Python but not in the component."""
    message = f"{project.file.name} can't be imported in a component. {error}"
    if sources.native:
        name, file = next(iter(sources.native.items()))
        message = (
            f"{project.file.name} needs `{name}`, which is compiled for this machine ({file.name}) "
            f"and can't run in a component: {advice(name)}.{_lines(str(error))}"
        )
    elif missing := _missing(str(error)):
        message += f"\n`{missing}` does not work in components: {advice(missing)}."
    return BuildError(message, error.details)


def _lines(message: str) -> str:
    """The author's lines that led to an error, without what the package says of itself."""
    return "".join(f"\n{line}" for line in message.splitlines()[1:])


def _missing(message: str) -> str | None:
    marker = "No module named '"
    if marker not in message:
        return None
    return message.partition(marker)[2].partition("'")[0]
