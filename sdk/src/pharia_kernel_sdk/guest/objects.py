"""Lists the objects in a component's memory, for ``build.immortal``."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import CodeType
from typing import Any


def addresses() -> list[int]:
    """Of all objects that the collector has not frozen, and of what these consist of; each address
    is followed by that of the object's type."""
    tracked = gc.get_objects()
    own = set(map(id, tracked))
    seen: dict[int, Any] = {}
    while tracked:
        found = tracked.pop()
        if id(found) in seen or (gc.is_tracked(found) and id(found) not in own):
            continue
        seen[id(found)] = found  # kept, so that no other object gets its address
        tracked += gc.get_referents(found)
        tracked += _hidden(found)
    return [number for address, found in seen.items() for number in (address, id(type(found)))]


def _hidden(found: Any) -> Iterator[Any]:
    """What an object refers to without telling the collector, as it can't be part of a cycle."""
    # Not isinstance: that asks the object, which may be a proxy of one that is gone.
    kind = type(found)
    if issubclass(kind, dict):
        yield from dict.keys(found)
    elif kind is CodeType:
        yield from (found.co_consts, found.co_names, found.co_linetable, found.co_exceptiontable)
        yield from (found.co_filename, found.co_name, found.co_qualname)
        yield from (*found.co_varnames, *found.co_freevars, *found.co_cellvars)
