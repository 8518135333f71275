"""The decorators that make functions skills."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from pharia_kernel_sdk import version
from pharia_kernel_sdk.csi.protocol import Csi
from pharia_kernel_sdk.shapes import Shape, UnsupportedTypeError, json_schema, shape_of
from pharia_kernel_sdk.streaming import MessageWriter

Kind = Literal["function", "message-stream"]

Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "__pharia_skill__"


class SkillDefinitionError(TypeError):
    """A function can't be a skill. The message says where it is and what to change."""


@dataclass(frozen=True)
class Declaration:
    """A function that is a skill, and what is known of it."""

    kind: Kind
    function: Callable[..., Any]
    input: Any
    output: Any
    """The result's type; for a message stream that of the payload at its end, or None."""

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def module(self) -> str:
        return self.function.__module__

    @property
    def description(self) -> str | None:
        return inspect.getdoc(self.function)

    @property
    def input_shape(self) -> Shape:
        return shape_of(self.input)

    @property
    def output_shape(self) -> Shape:
        return shape_of(self.output)

    def metadata(self) -> dict[str, Any]:
        """JSON of the custom section ``pharia-skill-metadata`` that the build adds."""
        return {
            "kind": self.kind,
            "name": self.name,
            "description": self.description,
            "input_schema": json_schema(self.input),
            "output_schema": None if self.output is None else json_schema(self.output),
            "sdk": f"{version.DISTRIBUTION} {version.SDK}",
            "wit_version": version.WIT,
        }


def skill(function: Function) -> Function:
    """Makes ``def name(csi: Csi, input: Input) -> Output`` a skill.

    Input and output are any types that have a JSON form (``pharia_kernel_sdk.shapes``). The
    docstring becomes the skill's description. The function stays what it is and can be called in
    tests. Raises ``SkillDefinitionError``.
    """
    hints, parameters = _signature(function)
    if len(parameters) != 2:
        raise _error(function, f"has {len(parameters)} parameters, but a skill has two", _SKILL)
    _check_csi(function, hints, parameters[0], _SKILL)
    if "return" not in hints:
        raise _error(function, "does not say what it returns", _SKILL)
    _mark(Declaration("function", function, _input(function, hints, parameters[1], _SKILL),
                      _jsonable(function, hints["return"], "its result", _SKILL)))  # fmt: skip
    return function


def message_stream(function: Function) -> Function:
    """Makes ``def name(csi: Csi, writer: MessageWriter[Payload], input: Input) -> None`` a skill
    that writes messages while it works. Raises ``SkillDefinitionError``."""
    hints, parameters = _signature(function)
    if len(parameters) != 3:
        count = len(parameters)
        raise _error(function, f"has {count} parameters, but a message stream has three", _STREAM)
    _check_csi(function, hints, parameters[0], _STREAM)
    writer = hints.get(parameters[1])
    if (get_origin(writer) or writer) is not MessageWriter:
        raise _error(function, f"`{parameters[1]}` is not annotated as MessageWriter", _STREAM)
    if hints.get("return", type(None)) is not type(None):
        raise _error(function, "returns something, but a message stream only writes", _STREAM)
    (payload,) = get_args(writer) or (None,)
    if payload is type(None) or isinstance(payload, TypeVar):
        payload = None
    if payload is not None:
        _jsonable(function, payload, "the payload of its writer", _STREAM)
    input_type = _input(function, hints, parameters[2], _STREAM)
    _mark(Declaration("message-stream", function, input_type, payload))
    return function


def declaration_of(function: Any) -> Declaration | None:
    """What a decorator noted on the function."""
    return getattr(function, _MARK, None)


def declared_in(namespace: dict[str, Any], module: str) -> list[Declaration]:
    """The skills that a module defines; those that it only imports are not among them."""
    found = [declaration_of(value) for value in namespace.values()]
    return list({id(d): d for d in found if d is not None and d.module == module}.values())


_SKILL = "def {name}(csi: Csi, input: Input) -> Output"
_STREAM = "def {name}(csi: Csi, writer: MessageWriter[Payload], input: Input) -> None"


def _signature(function: Any) -> tuple[dict[str, Any], list[str]]:
    if not inspect.isfunction(function):
        raise SkillDefinitionError(f"A skill is a plain function, not {function!r}.")
    if inspect.iscoroutinefunction(function):
        raise _error(
            function,
            "is async; what shall run at once, the `_concurrent` calls of `csi` do",
            _SKILL,
        )
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise _error(
            function, f"has an annotation that is not defined at this point ({error})", _SKILL
        ) from None
    return hints, list(inspect.signature(function).parameters)


def _check_csi(function: Any, hints: dict[str, Any], parameter: str, form: str) -> None:
    annotation = hints.get(parameter)
    if not (isinstance(annotation, type) and issubclass(annotation, Csi)):
        raise _error(function, f"`{parameter}`, its first parameter, is not annotated as Csi", form)


def _input(function: Any, hints: dict[str, Any], parameter: str, form: str) -> Any:
    if parameter not in hints:
        raise _error(function, f"`{parameter}` has no type", form)
    return _jsonable(function, hints[parameter], f"`{parameter}`", form)


def _jsonable(function: Any, type_: Any, what: str, form: str) -> Any:
    try:
        json_schema(type_)
    except UnsupportedTypeError as error:
        raise _error(function, f"{what} can't be JSON: {error}", form) from None
    return type_


def _mark(declaration: Declaration) -> None:
    setattr(declaration.function, _MARK, declaration)


def _error(function: Any, problem: str, form: str) -> SkillDefinitionError:
    code = function.__code__
    expected = form.format(name=function.__name__)
    return SkillDefinitionError(
        f"{code.co_filename}:{code.co_firstlineno}: `{function.__name__}` {problem.rstrip('.')}. "
        f"Expected: {expected}"
    )
