"""A run of a skill, from bytes to bytes."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from pharia_kernel_sdk.declaration import Declaration
from pharia_kernel_sdk.failures import summary, whole
from pharia_kernel_sdk.guest.bindings import Err
from pharia_kernel_sdk.guest.loading import author_files, load
from pharia_kernel_sdk.shapes import ShapeError
from pharia_kernel_sdk.version import WIT

T = TypeVar("T")


class Runner:
    """The skill of this component, and its errors as the exported interface has them."""

    def __init__(self, internal: Callable[[str], Any], invalid_input: Callable[[str], Any]) -> None:
        self.declaration: Declaration | None = None
        self._internal = internal
        self._invalid_input = invalid_input

    def load(self, request: bytes) -> bytes:
        """The first call of a component is the build's."""
        answer, self.declaration = load(request)
        return answer

    def adopt(self, declaration: Declaration, files: Mapping[str, str]) -> None:
        """Take a skill that was imported by somebody else, from these files of its author."""
        self.declaration = declaration
        author_files.update(files)

    def run(self, input_: bytes, work: Callable[[Declaration, Any], T]) -> T:
        """What ``work`` makes of the validated input. Raises ``Err``."""
        assert self.declaration is not None
        # The snapshot has a state of the generator; without this, all runs would draw the same.
        random.seed()
        try:
            value = self.declaration.input_shape.load_json(input_)
        except ShapeError as error:
            self._fail(self._invalid_input, f"The input does not fit. {error}")
        except ValueError as error:
            self._fail(self._invalid_input, f"The input is not JSON: {error}")
        try:
            return work(self.declaration, value)
        except Err:
            raise
        except (Exception, SystemExit) as error:
            print(whole(error), file=sys.stderr, end="")
            self._fail(self._internal, summary(error, author_files))

    def dump(self, declaration: Declaration, result: Any) -> bytes:
        """The result as JSON; an ``Err`` if it is not what the skill promises."""
        try:
            return declaration.output_shape.dump_json(result)
        except ValueError as error:
            self._fail(
                self._internal,
                f"`{declaration.name}` returned something else than its annotation says. {error}",
            )

    def _fail(self, case: Callable[[str], Any], text: str) -> NoReturn:
        raise Err(case(text)) from None


def warm_up() -> None:
    """Uses what runs will use, so that it is imported, and made, before the first snapshot."""
    try:
        raise ValueError(WIT)
    except ValueError as error:
        whole(error)
        summary(error, {__file__: __file__})
    # So that what the author's module adds can be told from the rest (``guest.objects``).
    gc.collect()
    gc.freeze()
