"""Objects of a snapshot whose references are not counted."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from sdk_components import SKILLS

from pharia_kernel_sdk.build import images
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.immortal import Objects, immortal
from pharia_kernel_sdk.build.preload import Preloaded, preload
from pharia_kernel_sdk.build.sources import Sources

TYPE = 0x2000
TEXT_HEADER = 20
"""Bytes of a text before its characters, if these are ASCII."""
IMMORTAL = {(3, 12): 0x3FFF_FFFF, (3, 14): 0x5000_0000}


def memory(references: int, type_: int = TYPE) -> bytes:
    """An object at address 8."""
    return bytes(8) + struct.pack("<II", references, type_) + bytes(8)


def count(memory: bytes) -> int:
    (found,) = struct.unpack_from("<I", memory, 8)
    return int(found)


@pytest.mark.parametrize("python", IMMORTAL)
def test_counts_are_replaced(python: tuple[int, int]) -> None:
    listed = Objects(python, [8, TYPE])
    assert count(immortal(memory(3), listed, [])) == IMMORTAL[python]
    assert count(immortal(memory(3), Objects(python, []), [8, TYPE])) == IMMORTAL[python]


@pytest.mark.parametrize(
    ("references", "type_"),
    [
        (0, TYPE),  # free memory, the last of its list
        (0x0010_0000, TYPE),  # free memory: the address of what is free, too
        (0x7000_0000, TYPE),  # an object that is immortal
        (3, TYPE + 4),  # now it is another object
    ],
)
def test_what_is_no_counted_object_stays(references: int, type_: int) -> None:
    before = memory(references, type_)
    assert immortal(before, Objects((3, 14), [8, TYPE]), [8, TYPE]) == before


def test_addresses_beyond_the_memory_are_passed_over() -> None:
    assert immortal(memory(1), Objects((3, 14), [20, TYPE, 1 << 31, TYPE]), []) == memory(1)


def test_an_unknown_python_is_left_alone() -> None:
    assert immortal(memory(3), Objects((3, 15), [8, TYPE]), [8, TYPE]) == memory(3)


def test_objects_are_kept_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "objects.json"
    Objects((3, 14), [8, TYPE]).write(file)
    assert Objects.of(file.read_text()) == Objects((3, 14), [8, TYPE])
    assert json.loads(file.read_text())["python"] == [3, 14]
    assert list(tmp_path.iterdir()) == [file]


def test_most_objects_of_a_component_are_immortal() -> None:
    """So the layout of objects is the one that is expected."""
    image = images.get("function", "plain")
    sources = Sources(SKILLS, image.standard_library, [])
    snapshot = preload(image, "function", "greet", [], sources, lambda _: None).memory
    listed = Objects.of(image.objects.read_text()).addresses
    headers = [struct.unpack_from("<II", snapshot, address) for address in listed[::2]]
    alive = [c for (c, type_), known in zip(headers, listed[1::2], strict=True) if type_ == known]
    assert len(alive) > 20_000
    assert sum(count >= 1 << 30 for count in alive) > 0.98 * len(alive)


SKILL = """
from pharia_kernel_sdk import Csi, skill

TABLE = {table}

@skill
def look_up(csi: Csi, input: str) -> str:
    return TABLE[input]
"""


def preloaded(folder: Path, table: str) -> Preloaded:
    (folder / "look_up.py").write_text(SKILL.format(table=table))
    image = images.get("function", "plain")
    sources = Sources(folder, image.standard_library, [])
    return preload(image, "function", "look_up", [], sources, lambda _: None)


@pytest.mark.parametrize("size", [30_000, 150_000])
def test_a_skill_may_have_more_objects_than_can_be_listed(tmp_path: Path, size: int) -> None:
    small = preloaded(tmp_path, "{}")
    large = preloaded(tmp_path, f"{{str(n): 'v' + str(n) for n in range({size})}}")
    assert large.failed == []
    # Two texts and an entry; a listing would take more than all of these.
    assert len(large.memory) - len(small.memory) < size * 100 + (1 << 20)


def test_many_objects_are_immortal_as_well(tmp_path: Path) -> None:
    memory = preloaded(tmp_path, "{'k' + str(n): 'value' for n in range(30_000)}").memory
    found = [memory.index(b"k%d\0" % n) for n in range(20_000, 20_100)]
    counts = [struct.unpack_from("<I", memory, at - TEXT_HEADER)[0] for at in found]
    assert set(counts) == {IMMORTAL[3, 14]}


def test_more_memory_than_a_component_can_start_with(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="more data in memory"):
        preloaded(tmp_path, "b'text' * 40_000_000")
