"""Makes the objects of a component immortal, as PEP 683 calls objects whose references are not
counted.

A run that counts references writes to every object that it uses. In a component each page that is
written to is copied first, and an interpreter's objects are scattered over all its memory, so that
counting costs a run a quarter of its time. Nothing of the snapshot is ever freed for good: the
memory of a run ends with it.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_COUNTS = {(3, 12): 0x3FFF_FFFF, (3, 14): 5 << 28}
"""What immortal objects have instead of a count, where pointers have 32 bits:
``_Py_IMMORTAL_REFCNT`` and ``_Py_IMMORTAL_INITIAL_REFCNT`` in CPython's headers."""
_MOST_REFERENCES = 0x8000
"""Free memory has an address in the place of the count, which is larger than this, or 0."""
_HEADER = struct.Struct("<II")
"""Of an object: its count and the address of its type."""
_COUNT = struct.Struct("<I")


@dataclass(frozen=True)
class Objects:
    """Objects of an image."""

    python: tuple[int, int]
    addresses: Sequence[int]
    """As ``guest.objects.addresses`` returns them."""

    @classmethod
    def of(cls, listing: bytes | str) -> Objects:
        """What ``guest.loading.listing`` returned."""
        listed = json.loads(listing)
        major, minor = listed["python"]
        return cls((major, minor), listed["objects"])

    def write(self, file: Path) -> None:
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        unfinished.write_text(json.dumps({"python": self.python, "objects": self.addresses}))
        unfinished.replace(file)


def immortal(memory: bytes, objects: Objects, added: Sequence[int]) -> bytes:
    """The memory, with those of the objects immortal that are still there.

    ``added`` are addresses of more objects. For a version of Python that is not known the memory
    stays as it is.
    """
    count = _COUNTS.get(objects.python)
    if count is None:
        return memory
    changed = bytearray(memory)
    for addresses in (objects.addresses, added):
        for address, type_ in zip(addresses[::2], addresses[1::2], strict=True):
            if _is_counted(changed, address, type_):
                _COUNT.pack_into(changed, address, count)
    return bytes(changed)


def _is_counted(memory: bytearray, address: int, type_: int) -> bool:
    """Whether an object of that type is there, and its references are counted."""
    if address + _HEADER.size > len(memory):
        return False
    references: int
    found: int
    references, found = _HEADER.unpack_from(memory, address)
    return found == type_ and 0 < references < _MOST_REFERENCES
