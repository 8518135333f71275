"""Models of pydantic, where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, get_origin

from pharia_kernel_sdk.shapes.base import Definitions, Path, Shape, ShapeError, shown, spelled


class _Pydantic(Shape):
    def __init__(self, type_: Any) -> None:
        from pydantic import TypeAdapter

        self._adapter: Any = TypeAdapter(type_)
        self.expected = f"an object ({getattr(type_, '__name__', type_)})"

    def load(self, value: Any, path: Path = ()) -> Any:
        return self._validated(self._adapter.validate_python, value, path)

    def load_json(self, document: bytes) -> Any:
        return self._validated(self._adapter.validate_json, document, ())

    def dump_json(self, value: Any) -> bytes:
        document: bytes = self._adapter.dump_json(value)
        return document

    def _validated(self, validate: Callable[[Any], Any], value: Any, path: Path) -> Any:
        from pydantic import ValidationError

        try:
            return validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = (*path, *first["loc"])
            message = first["msg"][:1].lower() + first["msg"][1:]
            raise _PydanticError(place, message, first.get("input")) from None

    def dump(self, value: Any, path: Path = ()) -> Any:
        return self._adapter.dump_python(value, mode="json")

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        schema: dict[str, Any] = self._adapter.json_schema()
        definitions.update(schema.pop("$defs", {}))
        return schema


class _PydanticError(ShapeError):
    """Pydantic says what is wrong in its own words."""

    def __init__(self, path: Path, message: str, value: Any) -> None:
        self.path = path
        self.expected = message
        missing = message.startswith("field required")
        found = "" if missing else f", got {shown(value)}"
        ValueError.__init__(self, f"{spelled(path)}: {message}{found}")


def model(type_: Any) -> Shape | None:
    """Models and dataclasses of pydantic, which is not imported for this."""
    if "pydantic" not in sys.modules:
        return None
    origin = get_origin(type_) or type_
    if not isinstance(origin, type):
        return None
    return _Pydantic(type_) if hasattr(origin, "__pydantic_core_schema__") else None
