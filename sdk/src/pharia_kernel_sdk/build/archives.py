"""Images that come with the SDK, each packed into a file.

A release makes them (``shipping``); a working tree has none. The folder of the package may be
read-only, so they are unpacked to the user's cache, which takes half a second once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent / "shipped"
_SUFFIX = ".tar.xz"
_COMPONENT = "image.wasm"

Preset = Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""How hard xz tries."""


def find(key: str) -> Path | None:
    """The archive of the image with this key, if it is shipped."""
    return next(iter(sorted(FOLDER.glob(f"{key}-*{_SUFFIX}"))), None)


def unpacked(archive: Path, cache: Path) -> Path:
    """The folder of the image, below ``cache``. Several processes may ask at the same time.

    Its name tells the contents: another image with the same key is never taken for this one.
    Raises ``tarfile.CompressionError`` if this Python was built without xz.
    """
    target = cache / archive.name.removesuffix(_SUFFIX)
    if (target / _COMPONENT).is_file():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        staging = Path(scratch) / "image"
        with tarfile.open(archive, "r:xz") as packed:
            packed.extractall(staging, filter="data")
        try:
            staging.rename(target)
        except OSError:
            if not (target / _COMPONENT).is_file():  # nobody was quicker: remains are in the way
                shutil.rmtree(target)
                staging.rename(target)
    return target


def pack(image: Path, key: str, folder: Path, preset: Preset = 6) -> Path:
    """Packs what builds need of the image in the folder ``image``; returns the archive, which is in
    ``folder``. The same contents make the same bytes."""
    wanted = [image / _COMPONENT, image / "objects.json", *(image / "standard").rglob("*.py")]
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{key}.{os.getpid()}"
    with tarfile.open(unfinished, "w:xz", preset=preset) as packed:
        for file in sorted(wanted):
            entry = packed.gettarinfo(file, file.relative_to(image).as_posix())
            entry.mtime = entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o644
            with file.open("rb") as content:
                packed.addfile(entry, content)
    digest = hashlib.sha256(unfinished.read_bytes()).hexdigest()
    return unfinished.replace(folder / f"{key}-{digest[:16]}{_SUFFIX}")
