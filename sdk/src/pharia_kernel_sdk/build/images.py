"""Components that have Python and this SDK in them, and wait for the author's module.

Making one takes componentize-py over ten seconds, nearly all of it spent on compiling Python. It
depends on nothing of the author's, so it is done once for this version of the SDK: a released one
brings its images (``archives``), others are made on first use and kept in the user's cache.
Building a skill then starts where this has left off.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pharia_kernel_sdk.build import archives
from pharia_kernel_sdk.build.errors import BuildError
from pharia_kernel_sdk.build.wasm import stripped
from pharia_kernel_sdk.declaration import Kind

RECIPE = "1"
"""Raise it when the same inputs are made into another image."""
_SDK = Path(__file__).resolve().parents[1]
_OUTSIDE = (
    "build",
    "cli",
    "publishing",
    "pytest_plugin",
    "running",
    "templates",
    "testing",
    "wit",
)
"""Packages of the SDK that no component needs."""
_OUTSIDE_MODULES = ("__main__.py", "http_csi.py", "transport.py")

_WORLDS = {"function": "function", "message-stream": "message-stream"}
_ENTRIES = {"function": "entry_function", "message-stream": "entry_stream"}
INTERFACES = {
    "pharia:skill/inference@0.3.11": "explaining",
    "pharia:skill/inference@0.4.0": "inference",
}

_APP = """\
{imports}
from pharia_kernel_sdk.guest.{entry} import *
import os

# The library that this Python was made for; what of it a skill imports is taken from there.
for folder, folders, files in os.walk("/python"):
    folders[:] = [f for f in folders if f not in {{"__pycache__", "test", "tests", "idlelib"}}]
    copied = "/0/standard" + folder.removeprefix("/python")
    os.makedirs(copied, exist_ok=True)
    for name in files:
        if name.endswith(".py"):
            source = os.open(folder + "/" + name, os.O_RDONLY)
            target = os.open(copied + "/" + name, os.O_WRONLY | os.O_CREAT)
            while block := os.read(source, 4096):
                os.write(target, block)
            os.close(source)
            os.close(target)
del folder, folders, files, copied, name, source, target, block
"""


@dataclass(frozen=True)
class Image:
    """A component, the standard library that belongs to it, and packages that are in it."""

    folder: Path

    @property
    def component(self) -> Path:
        return self.folder / "image.wasm"

    @property
    def objects(self) -> Path:
        """JSON of the objects in its memory (``immortal``)."""
        return self.folder / "objects.json"

    @property
    def standard_library(self) -> Path:
        return self.folder / "standard"

    @property
    def packages(self) -> Path:
        """Packages that have to be taken from here and not from the author's environment."""
        return self.folder / "packages"


class Toolchain(ABC):
    """Which Python an image has, and what besides the standard library."""

    name: str
    imports = ""
    """Lines of Python that the image executes first."""

    @abstractmethod
    def inputs(self) -> str:
        """What decides the image besides the SDK."""

    @abstractmethod
    def prepare(self, packages: Path) -> Path:
        """Puts packages of the image in the folder; returns the command componentize-py."""


class Plain(Toolchain):
    """The newest Python there is for components, and nothing else."""

    name = "plain"

    def inputs(self) -> str:
        return importlib.metadata.version("componentize-py")

    def prepare(self, packages: Path) -> Path:
        command = shutil.which("componentize-py", path=str(Path(sys.executable).parent))
        command = command or shutil.which("componentize-py")
        if command is None:
            raise BuildError(
                "The command componentize-py is missing. It comes with this SDK: install "
                "pharia-kernel-sdk again."
            )
        return Path(command)


class WithPydantic(Toolchain):
    """Python 3.12, for which there is a pydantic-core that runs in components.

    That and the componentize-py for it are installed to a folder of their own on first use.
    """

    name = "pydantic"
    imports = (
        "import pydantic, pydantic.root_model, pydantic.type_adapter, pydantic.json_schema\n"
        "import pydantic.dataclasses, pydantic.functional_validators, pydantic.networks\n"
        "import pydantic.functional_serializers, pydantic.types, pydantic.fields, pydantic.errors\n"
        "import pydantic.deprecated.decorator\n"
        "class _M(pydantic.BaseModel):\n"
        "    a: int = 0\n"
        "    b: str = ''\n"
        "_M.model_json_schema(), pydantic.TypeAdapter(list[int]).json_schema()\n"
        # Makes the cache of strings, of which a run only uses a little.
        'pydantic.TypeAdapter(_M).validate_json(\'{"b": "text"}\').model_dump_json()\n'
    )
    _REQUIREMENTS = ("componentize-py==0.17.2",)
    _PACKAGES = (
        "pydantic==2.11.7",
        "pydantic-core==2.33.2",
        "annotated-types==0.7.0",
        "typing-inspection==0.4.2",
        "typing-extensions==4.15.0",
    )
    _WHEEL_IS_IN = "pharia-skill==0.20.0"

    def inputs(self) -> str:
        return " ".join([*self._REQUIREMENTS, *self._PACKAGES, self._WHEEL_IS_IN])

    def prepare(self, packages: Path) -> Path:
        tools = packages.with_name("tools")
        with tempfile.TemporaryDirectory() as folder:
            _pip("--target", folder, "--no-deps", "--ignore-requires-python", self._WHEEL_IS_IN)
            _pip("--target", str(tools), "--no-deps", *self._REQUIREMENTS)
            platforms = ["--platform", "any", "--platform", "wasi_0_0_0_wasm32"]
            version = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"]
            wheels = ["--find-links", str(Path(folder) / "wasi_wheels")]
            _pip(
                "--target", str(packages), "--no-deps", "--only-binary", ":all:",
                *platforms, *version, *wheels, *self._PACKAGES,
            )  # fmt: skip
        return tools / "bin" / "componentize-py"


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise BuildError(
            "The toolchain for skills with pydantic could not be installed. It needs pip (install "
            "pharia-kernel-sdk[pydantic]) and, once, the package index.",
            done.stdout + done.stderr,
        )


TOOLCHAINS: dict[str, Toolchain] = {t.name: t for t in (Plain(), WithPydantic())}


def cache_folder() -> Path:
    """Where images are kept: ``PHARIA_SDK_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("PHARIA_SDK_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "pharia-kernel-sdk"


def existing(kind: Kind, toolchain: str) -> Image | None:
    """The image, if it came with this SDK or has been made here."""
    return _existing(key(kind, toolchain))


def _existing(name: str) -> Image | None:
    # Shipped ones first: all machines that have this SDK then build the same bytes.
    if archive := archives.find(name):
        with contextlib.suppress(tarfile.CompressionError):
            return Image(archives.unpacked(archive, cache_folder()))
    image = Image(cache_folder() / name)
    return image if image.component.is_file() else None


def get(kind: Kind, toolchain: str) -> Image:
    """The image, which is made if there is none. Raises ``BuildError``."""
    name = key(kind, toolchain)
    if found := _existing(name):
        return found
    folder = cache_folder() / name
    with _locked(folder):
        return _existing(name) or make(folder, kind, toolchain)


def key(kind: Kind, toolchain: str) -> str:
    """Names the image by all that decides what is in it."""
    chosen = TOOLCHAINS[toolchain]
    digest = hashlib.sha256(f"{RECIPE} {chosen.inputs()} {chosen.imports}".encode())
    for file in sorted([*guest_files(), *(_SDK / "wit").glob("*.wit")]):
        digest.update(str(file.relative_to(_SDK)).encode() + b"\0" + file.read_bytes() + b"\0")
    return f"{toolchain}-{kind}-{digest.hexdigest()[:16]}"


def guest_files() -> list[Path]:
    """The modules of the SDK that are in every component."""
    files = (file for file in _SDK.rglob("*.py") if "__pycache__" not in file.parts)
    return [
        file
        for file in files
        if file.relative_to(_SDK).parts[0] not in (*_OUTSIDE, *_OUTSIDE_MODULES)
    ]


def make(place: Path, kind: Kind, toolchain: str) -> Image:
    """Makes the image in the folder ``place``, and removes what is there. Raises ``BuildError``."""
    image, chosen = Image(place), TOOLCHAINS[toolchain]
    shutil.rmtree(place, ignore_errors=True)
    image.packages.mkdir(parents=True)
    command = chosen.prepare(image.packages)
    with tempfile.TemporaryDirectory(dir=image.folder) as folder:
        staging = Path(folder)
        for file in guest_files():
            target = staging / "pharia_kernel_sdk" / file.relative_to(_SDK)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        app = _APP.format(imports=chosen.imports, entry=_ENTRIES[kind])
        (staging / "pharia_image.py").write_text(app)
        _componentize(command, staging, image.packages, kind)
        (staging / "standard").replace(image.standard_library)
        shutil.rmtree(image.folder / "tools", ignore_errors=True)
        # Written last: it tells that the image is complete.
        unfinished = staging / "stripped.wasm"
        unfinished.write_bytes(stripped((staging / "out.wasm").read_bytes()))
        unfinished.replace(image.component)
    return image


def _componentize(command: Path, staging: Path, packages: Path, kind: Kind) -> None:
    wit = staging / "wit"
    for name, target in (("skill", "deps/skill/"), ("explain", "deps/explain/"), ("worlds", "")):
        (wit / target).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_SDK / "wit" / f"{name}.wit", wit / target / f"{name}.wit")
    names = [
        option
        for interface, name in INTERFACES.items()
        for option in ("--import-interface-name", f"{interface}={name}")
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_"))}
    # Else the packages of whatever environment this is would be searched, too.
    environment["VIRTUAL_ENV"] = str(staging)
    environment["PYTHONPATH"] = str(packages.with_name("tools"))
    done = subprocess.run(
        [
            str(command), "-q", "-d", str(wit), "-w", _WORLDS[kind], "--world-module", "wit_world",
            *names, "componentize", "pharia_image", "-p", ".", "-p", str(packages),
            "-o", "out.wasm",
        ],
        cwd=staging, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise BuildError(
            "componentize-py could not make the image that skills are built on. This is a fault "
            "of the SDK, or of the versions that it was installed with.",
            done.stdout + done.stderr,
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
