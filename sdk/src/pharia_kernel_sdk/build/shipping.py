"""Makes the images that are shipped with the SDK:

    python -m pharia_kernel_sdk.build.shipping [FOLDER]

in the folder of this package, from which they get into the wheel, or in another. Only those of
plain Python: the toolchain of the ones with pydantic is not a dependency of this SDK.

componentize-py draws the seed of Python's hashes from the system, so that each image is different,
even if all its inputs are the same. Skills that are built on the same image are not.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from pharia_kernel_sdk.build import archives, images
from pharia_kernel_sdk.build.preload import list_objects
from pharia_kernel_sdk.declaration import Kind

_TOOLCHAIN = "plain"


def ship(folder: Path, report: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Makes an image for each kind of skill and packs it; returns the archives, which replace all
    that were in the folder. Raises ``BuildError``."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    with tempfile.TemporaryDirectory() as scratch:
        made = []
        for kind in kinds:
            report(f"Preparing Python for components: {kind}")
            image = images.make(Path(scratch) / kind, kind, _TOOLCHAIN)
            list_objects(image, kind)
            key = images.key(kind, _TOOLCHAIN)
            made.append(archives.pack(image.folder, key, Path(scratch) / "packed"))
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.tar.xz"):
            old.unlink()
        return [_moved(archive, folder) for archive in made]


def _moved(file: Path, folder: Path) -> Path:
    target = folder / file.name
    target.write_bytes(file.read_bytes())
    return target


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make the images that are shipped with the SDK.")
    parser.add_argument("folder", nargs="?", type=Path, default=archives.FOLDER)
    for archive in ship(parser.parse_args(arguments).folder, print):
        print(f"{archive.stat().st_size:>12,}  {archive.name}")


if __name__ == "__main__":
    main()
