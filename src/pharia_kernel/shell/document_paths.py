"""Paths of the document index's routes, whose parts may hold encoded slashes."""

from __future__ import annotations

from starlette.types import Scope

_ROOTS = (b"/collections/", b"/indexes/", b"/namespaces")


def undecoded(scope: Scope) -> Scope | None:
    """For requests to these routes: the scope with the path as it was sent; none for others.

    Names may contain slashes, which are told from those between them only while encoded.
    """
    raw_path: bytes = scope.get("raw_path") or b""
    if not raw_path.startswith(_ROOTS):
        return None
    return {**scope, "path": raw_path.decode("latin-1")}


def disguised(scope: Scope) -> bool:
    """Whether a path only leads to these routes once it is decoded: then the guard and the route
    would not mean the same names."""
    path: str = scope["path"]
    return path.startswith(tuple(root.decode() for root in _ROOTS))
