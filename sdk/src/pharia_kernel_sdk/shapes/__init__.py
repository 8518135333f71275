"""From JSON to the types of a skill's signature and back, and their JSON Schemas.

Pure Python, because a component can't load compiled extensions. It understands what JSON can say:
``None``, ``bool``, ``int``, ``float``, ``str``, lists, tuples, sets, dictionaries with text keys,
``Literal``, enums, dates and times (ISO 8601), UUIDs, unions, dataclasses, ``TypedDict``, ``Any``,
``Annotated`` with ``Field`` or the constraints of the package annotated-types, and pydantic models
where pydantic is installed. Input is checked strictly: nothing is converted that is not the same in
JSON, so ``"1"`` is no number. Keys that are not known are ignored.
"""

from __future__ import annotations

from typing import Any

from pharia_kernel_sdk.shapes import annotation, collection, models, record, single
from pharia_kernel_sdk.shapes.annotation import Field
from pharia_kernel_sdk.shapes.base import (
    MAKERS,
    Definitions,
    Shape,
    ShapeError,
    UnsupportedTypeError,
    shape_of,
)
from pharia_kernel_sdk.shapes.record import Record

__all__ = [
    "Field",
    "Shape",
    "ShapeError",
    "UnsupportedTypeError",
    "json_schema",
    "shape_of",
]

MAKERS[:] = [
    single.single,
    models.model,
    annotation.annotated,
    single.enumerated,
    collection.union,
    record.dataclass_record,
    record.typed_dict,
    collection.collection,
    annotation.renamed,
]


def json_schema(type_: Any) -> dict[str, Any]:
    """The JSON Schema of a type, with the types that it refers to in ``$defs``."""
    shape = shape_of(type_)
    definitions = Definitions()
    schema = shape.schema(definitions)
    if isinstance(shape, Record) and "$ref" in schema:  # the type itself is no definition
        schema = definitions.pop(shape.name) if not _is_recursive(shape, definitions) else schema
    return {**schema, "$defs": definitions} if definitions else schema


def _is_recursive(shape: Record, definitions: Definitions) -> bool:
    return f"'#/$defs/{shape.name}'" in repr(definitions)
