"""What is special about releasing the SDK: images in its wheel, and skills that it has to build."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tools.local_kernel import Failure, say
from tools.release_packages import ROOT, Package, run

_SHIPPED = "pharia_kernel_sdk/build/shipped/"
_SKILL = """\
from pharia_kernel_sdk import Csi, skill


@skill
def hello(csi: Csi, name: str) -> str:
    return f"Hello {name}"
"""
_PROJECTS = {"function": "python-function", "message-stream": "python-stream"}
"""A template for each kind of skill."""


def ship_images(source: Path) -> None:
    """Make the images that the wheel of the unpacked sources gets."""
    say("making the images that come with the SDK ...")
    package = source / "src"
    folder = package / _SHIPPED
    run(
        sys.executable, "-m", "pharia_kernel_sdk.build.shipping", str(folder),
        PYTHONPATH=str(package),
    )  # fmt: skip


SDK = Package(ROOT / "sdk", kind="library", complete=ship_images, added=_SHIPPED)


def build_skills(python: Path, scratch: Path) -> Path:
    """Build a skill of each kind with the installed SDK, which may make no image for that.

    Returns the component of a function that greets. Raises ``Failure``.
    """
    say("building skills with the installed SDK ...")
    work, cache = scratch / "skills", scratch / "sdk-cache"
    work.mkdir()
    environ = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": "",
        "PHARIA_SDK_CACHE": str(cache),
    }
    sdk = str(python.with_name("pharia-sdk"))
    for kind, template in _PROJECTS.items():
        name = f"a_{template.replace('-', '_')}"
        run(sdk, "new", name, "--template", template, cwd=work, **environ)
        said = run(sdk, "build", f"{name}.py", cwd=work / name, **environ)
        if f"{kind} skill" not in said:
            raise Failure(f"{template} was built into something else: {said!r}")
    (work / "hello.py").write_text(_SKILL)
    run(sdk, "build", "hello.py", cwd=work, **environ)
    _check_that_no_image_was_made(cache, python)
    return work / "hello.wasm"


def _check_that_no_image_was_made(cache: Path, python: Path) -> None:
    code = "from pharia_kernel_sdk.build import archives; print(archives.FOLDER)"
    folder = Path(run(str(python), "-c", code, PYTHONPATH="").strip())
    shipped = {file.name.removesuffix(".tar.xz") for file in folder.glob("*.tar.xz")}
    used = {file.parent.name for file in cache.glob("*/image.wasm")}
    if used != shipped:
        raise Failure(f"shipped with the SDK: {sorted(shipped)}, but used: {sorted(used)}")
