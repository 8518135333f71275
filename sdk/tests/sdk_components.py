"""Components of the skills in ``tests/skills``, which are built once for the same inputs."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from tools.build_skills import CACHE, TEST_SKILLS
from tools.tool_cache import locked

os.environ.setdefault("PHARIA_SDK_CACHE", str(CACHE / "sdk"))

from pharia_kernel_sdk.build import images, project
from pharia_kernel_sdk.build.component import build

SDK = Path(__file__).parents[1]
SKILLS = Path(__file__).parent / "skills"


@functools.cache
def component(name: str, folder: Path = SKILLS) -> Path:
    """The component of a skill of the tests."""
    target = CACHE / "sdk" / f"{name}-{_key(folder)}.wasm"
    if not target.exists():
        with locked(target.with_suffix(".lock")):
            if not target.exists():
                build(project.find(f"{name}.py", folder), target)
    return target


def moved(name: str) -> Path:
    """A test skill of the kernel that was written for ``pharia_skill``, with changed imports."""
    folder = CACHE / "sdk" / "moved" / name
    source = (TEST_SKILLS / name / f"{name}.py").read_text()
    file = folder / f"moved_{name}.py"
    changed = source.replace("pharia_skill", "pharia_kernel_sdk")
    with locked(folder.with_suffix(".lock")):
        folder.mkdir(exist_ok=True)
        if not file.exists() or file.read_text() != changed:
            file.write_text(changed)
    return component(f"moved_{name}", folder)


def _key(folder: Path) -> str:
    """Of all that a component is made from: the image, the build, and the sources."""
    package = SDK / "src" / "pharia_kernel_sdk"
    build_sources = [*(package / "build").rglob("*.py"), *folder.rglob("*.py")]
    digest = hashlib.sha256(images.RECIPE.encode())
    for file in sorted([*images.guest_files(), *(package / "wit").glob("*.wit"), *build_sources]):
        digest.update(str(file.name).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
