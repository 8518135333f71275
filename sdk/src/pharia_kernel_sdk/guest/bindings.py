"""The generated bindings, whose layout differs between toolchains in one place."""

from wit_world.imports import (
    chunking,
    document_index,
    explaining,
    inference,
    language,
    tool,
)

try:
    from componentize_py_types import Err, Ok
except ModuleNotFoundError:  # componentize-py before 0.18
    from wit_world.types import Err, Ok

__all__ = [
    "Err",
    "Ok",
    "chunking",
    "document_index",
    "explaining",
    "inference",
    "language",
    "tool",
]
