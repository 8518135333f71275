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
from pharia_kernel_sdk.failures import summary
from pharia_kernel_sdk.pytest_plugin.errors import InvalidInputError, SkillFailedError
from pharia_kernel_sdk.pytest_plugin.results import Streamed
from pharia_kernel_sdk.shapes import ShapeError
from pharia_kernel_sdk.testing.recorder import MessageRecorder
from pharia_kernel_sdk.transport import CsiError

if TYPE_CHECKING:
    from pharia_kernel_sdk.pytest_plugin.component import SkillComponent

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
        from pharia_kernel_sdk.pytest_plugin.component import SkillComponent

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
        return _native(declaration, self._csi, data)

    def _component(self, component: SkillComponent, data: bytes) -> Any:
        if component.kind == "function":
            return json.loads(component.run(self._csi, data))
        return Streamed.of(component.stream(self._csi, data))


def _json(input_: Any, declaration: Declaration | None = None) -> bytes:
    try:
        return json.dumps(input_, ensure_ascii=False).encode()
    except TypeError:
        if declaration is None:
            raise
        return declaration.input_shape.dump_json(input_)


def _native(declaration: Declaration, csi: Csi, data: bytes) -> Any:
    try:
        value = declaration.input_shape.load_json(data)
    except ShapeError as error:
        raise InvalidInputError(f"The input does not fit. {error}") from error
    recorder: MessageRecorder[Any] = MessageRecorder()
    stream = declaration.kind == "message-stream"
    arguments = (csi, recorder, value) if stream else (csi, value)
    try:
        result = declaration.function(*arguments)
    except CsiError:  # the kernel's, and not the skill's
        raise
    except (Exception, SystemExit) as error:
        raise SkillFailedError(summary(error, _author_files(declaration))) from error
    return _streamed(recorder) if stream else _output(declaration, result)


def _output(declaration: Declaration, result: Any) -> Any:
    try:
        return json.loads(declaration.output_shape.dump_json(result))
    except ValueError as error:
        raise SkillFailedError(
            f"`{declaration.name}` returned something else than its annotation says. {error}"
        ) from error


def _streamed(recorder: MessageRecorder[Any]) -> Streamed:
    """Payloads as JSON, which is what callers get of them."""
    from pharia_kernel_sdk.streaming import MessageEnd, payload_json

    for item in recorder.items:
        if isinstance(item, MessageEnd) and item.payload is not None:
            item.payload = json.loads(payload_json(item.payload) or b"null")
    return Streamed.of(recorder)


def _author_files(declaration: Declaration) -> list[str]:
    """Modules that lie beside the skill's own, installed ones excepted."""
    own = sys.modules[declaration.module].__file__
    folder = str(Path(str(own)).parent)
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [f for f in files if f and f.startswith(folder) and "site-packages" not in f]
