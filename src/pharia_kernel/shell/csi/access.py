"""The namespaces that a call names, in which the caller needs a permission for it."""

from __future__ import annotations

from typing import Any

from pharia_kernel.csi.types import DocumentPath, IndexPath
from pharia_kernel.shell.csi.requests import InvokeToolBody, ListToolsBody

_NAMING = (DocumentPath, IndexPath, InvokeToolBody, ListToolsBody)
_INSIDE = ("index_path", "document_path", "requests")
"""Members in which the others have those."""


def named_namespaces(asked: Any) -> set[str]:
    """Of tools and of documents; ``asked`` is the body of any function."""
    if isinstance(asked, _NAMING):
        return {asked.namespace}
    if isinstance(asked, list):
        return set().union(*map(named_namespaces, asked))
    inner = [getattr(asked, member, None) for member in _INSIDE]
    return set().union(*(named_namespaces(value) for value in inner if value is not None))
