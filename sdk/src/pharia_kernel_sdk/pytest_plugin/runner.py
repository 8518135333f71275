"""Runs skills as the kernel would: JSON in, JSON out, and the same errors."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.declaration import Declaration, declaration_of
from pharia_kernel_sdk.running.source import SourceSkill

if TYPE_CHECKING:
    from pharia_kernel_sdk.running.component import SkillComponent

Skill = Callable[..., Any] | str | Path


class Components:
    """Components of skills, which are built once per test session."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pharia-skills-")
        self._loaded: dict[Path, SkillComponent] = {}

    def of_source(self, file: Path) -> SkillComponent:
        """Of a Python module. Raises ``BuildError``."""
        from pharia_kernel_sdk.build.component import build
        from pharia_kernel_sdk.build.project import find

        if file not in self._loaded:
            target = Path(self._folder.name) / f"{len(self._loaded)}-{file.stem}.wasm"
            build(find(file.name, file.parent), target)
            self._loaded[file] = self._load(target)
        return self._loaded[file]

    def of_file(self, file: Path) -> SkillComponent:
        """Of a component that has been built, in whatever language."""
        if file not in self._loaded:
            self._loaded[file] = self._load(file)
        return self._loaded[file]

    def close(self) -> None:
        self._loaded.clear()
        self._folder.cleanup()

    def _load(self, file: Path) -> SkillComponent:
        from pharia_kernel_sdk.running.component import SkillComponent

        return SkillComponent(file)


class SkillRunner:
    """``run_skill(skill, input)``: the output of a function, or what a message stream wrote.

    ``skill`` is the decorated function, or the path of a component. ``input`` is any JSON value, or
    an instance of the skill's input type; the output is a plain JSON value. Raises
    ``InvalidInputError``, ``SkillFailedError``, or what the ``Csi`` raised.
    """

    def __init__(self, csi: Csi, components: Components, *, as_component: bool) -> None:
        self._csi = csi
        self._components = components
        self._as_component = as_component

    def __call__(self, skill: Skill, input: Any = None) -> Any:
        if isinstance(skill, str | Path):
            return self._component(self._components.of_file(Path(skill).resolve()), _json(input))
        declaration = declaration_of(skill)
        if declaration is None:
            name = getattr(skill, "__name__", repr(skill))
            raise TypeError(
                f"`{name}` is no skill: it has neither @skill nor @message_stream, and is no path "
                "of a component."
            )
        data = _json(input, declaration)
        if self._as_component:
            file = Path(str(sys.modules[declaration.module].__file__))
            return self._component(self._components.of_source(file.resolve()), data)
        return SourceSkill(declaration, self._csi).run(data)

    def _component(self, component: SkillComponent, data: bytes) -> Any:
        from pharia_kernel_sdk.running.component import ComponentSkill

        return ComponentSkill(component, self._csi).run(data)


def _json(input_: Any, declaration: Declaration | None = None) -> bytes:
    try:
        return json.dumps(input_, ensure_ascii=False).encode()
    except TypeError:
        if declaration is None:
            raise
        return declaration.input_shape.dump_json(input_)
