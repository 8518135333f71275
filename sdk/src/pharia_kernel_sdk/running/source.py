"""Runs a skill's source in this process, with what a component would make of it: JSON in, JSON
out, and the same errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.declaration import Declaration
from pharia_kernel_sdk.failures import summary
from pharia_kernel_sdk.running.errors import InvalidInputError, SkillFailedError
from pharia_kernel_sdk.running.results import Streamed
from pharia_kernel_sdk.running.skill import Listener, TellingRecorder, nobody
from pharia_kernel_sdk.shapes import ShapeError
from pharia_kernel_sdk.transport import CsiError


class SourceSkill:
    """A decorated function. All runs share the module's globals, unlike in a component."""

    def __init__(self, declaration: Declaration, csi: Csi) -> None:
        self._declaration = declaration
        self._csi = csi

    def run(self, input_: bytes, listener: Listener = nobody) -> Any:
        declaration = self._declaration
        try:
            value = declaration.input_shape.load_json(input_)
        except ShapeError as error:
            raise InvalidInputError(f"The input does not fit. {error}") from error
        recorder = TellingRecorder(listener)
        stream = declaration.kind == "message-stream"
        arguments = (self._csi, recorder, value) if stream else (self._csi, value)
        try:
            result = declaration.function(*arguments)
        except CsiError:  # the kernel's, and not the skill's
            raise
        except (Exception, SystemExit) as error:
            raise SkillFailedError(summary(error, _author_files(declaration))) from error
        return Streamed.of(recorder) if stream else _output(declaration, result)


def _output(declaration: Declaration, result: Any) -> Any:
    try:
        return json.loads(declaration.output_shape.dump_json(result))
    except ValueError as error:
        raise SkillFailedError(
            f"`{declaration.name}` returned something else than its annotation says. {error}"
        ) from error


def _author_files(declaration: Declaration) -> dict[str, str]:
    """Modules in the folder of the skill's own or below, installed ones excepted."""
    folder = Path(str(sys.modules[declaration.module].__file__)).parent
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    own = [file for file in files if file and Path(file).is_relative_to(folder)]
    return {f: str(Path(f).relative_to(folder)) for f in own if "site-packages" not in f}
