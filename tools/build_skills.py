"""Builds the skills of the tests into WebAssembly components.

    python -m tools.build_skills [names...]

A result is kept in ``skill_build_cache/`` under a name that ends in the hash of all that went into
it, so nothing is built twice. The toolchains are made on first use in ``.toolchains/``, in exactly
the versions that ``tools/toolchains/`` pins; that takes Python, ``uv`` and, for JavaScript,
Node.js. Several processes may build at the same time: they wait for each other and share the work.
"""

from __future__ import annotations

import argparse
import fcntl
import filecmp
import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import wasmtime

from pharia_kernel import wit
from tools.tool_cache import TOOLCHAINS, locked

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "skill_build_cache"
ENVIRONMENTS = TOOLCHAINS
PINS = ROOT / "tools" / "toolchains"
TEST_SKILLS = ROOT / "tests" / "skills"

_RECIPE = b"1"
"""Raise it when the same inputs are built in another way."""
_MAX_JOBS = 4
_FIRST_LINES, _LAST_LINES = 8, 25
"""What is shown of a failed program's output: some name the cause first, some last."""

Report = Callable[[str], None]


class BuildError(Exception):
    """A skill or a toolchain could not be built; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Skill:
    """What there is to build. The main source file is named as the skill."""

    name: str
    toolchain: str
    sources: dict[str, bytes]
    """Content by relative path."""
    world: str = "skill"
    wit: str = "0.3"
    features: tuple[str, ...] = ()
    """Unstable WIT features that the world needs."""

    def write_sources(self, folder: Path) -> None:
        for path, content in self.sources.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


def build(names: Iterable[str] | None = None, *, report: Report = print) -> dict[str, Path]:
    """Builds the named test skills, by default all, and returns the file of each.

    ``report`` receives lines of progress. Raises ``BuildError`` once all the others are built.
    """
    return _build(_select(test_skills(), names), report)


def build_folder(folder: Path, out: Path, report: Report = print) -> Path:
    """Builds the skill in ``folder``, which looks like one in ``tests/skills``, and copies it to
    ``out``. Raises ``BuildError``."""
    skill = _from_folder(folder)
    return _publish(_build([skill], report)[skill.name], out / f"{skill.name}.wasm")


def _build(skills: list[Skill], report: Report) -> dict[str, Path]:
    jobs: dict[str, list[Skill]] = defaultdict(list)
    for skill in skills:
        if not _artifact(skill).exists():
            jobs[skill.toolchain].append(skill)
    report(
        f"{len(skills) - sum(map(len, jobs.values()))} of {len(skills)} skills are built already."
    )
    if jobs and (errors := _build_all(jobs, report)):
        raise BuildError("\n\n".join(errors))
    return {skill.name: _artifact(skill) for skill in skills}


def _build_all(jobs: dict[str, list[Skill]], report: Report) -> list[str]:
    """By toolchain. Returns the messages of those that failed."""
    names = [name for name in _TOOLCHAINS if name in jobs]
    # A build keeps a core busy and takes half a gigabyte.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_JOBS)) as pool:
        unusable = list(pool.map(lambda name: _unusable(name, jobs[name], report), names))
        usable = [name for name, error in zip(names, unusable, strict=True) if error is None]
        todo = [skill for name in usable for skill in jobs[name]]
        failed = list(pool.map(lambda skill: _failure(skill, report), todo))
    return [error for error in [*unusable, *failed] if error is not None]


# --- what can be built ---------------------------------------------------------------------------


def test_skills() -> dict[str, Skill]:
    """The skills in ``tests/skills``: a folder each, and those that ``hostile.py`` generates.

    A folder's ``skill.toml`` names the toolchain, the world, the WIT line, unstable features that
    the world needs, and the files of ``tests/skills/shared`` that the source imports.
    """
    folders = [_from_folder(file.parent) for file in sorted(TEST_SKILLS.glob("*/skill.toml"))]
    generated = [
        Skill(name, "wat", {f"{name}.wat": text.encode()})
        for name, text in runpy.run_path(str(TEST_SKILLS / "hostile.py"))["SKILLS"].items()
    ]
    return {skill.name: skill for skill in [*folders, *generated]}


def _from_folder(folder: Path) -> Skill:
    description = tomllib.loads((folder / "skill.toml").read_text(encoding="utf-8"))
    sources = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "skill.toml" and "__pycache__" not in file.parts
    }
    for name in description.get("shared", ()):
        sources[name] = (TEST_SKILLS / "shared" / name).read_bytes()
    return _described(folder.name, description, sources)


def _described(name: str, entry: dict[str, Any], sources: dict[str, bytes]) -> Skill:
    return Skill(
        name,
        entry["toolchain"],
        sources,
        entry["world"],
        entry["wit"],
        tuple(entry.get("features", ())),
    )


def _select(catalog: dict[str, Skill], names: Iterable[str] | None) -> list[Skill]:
    wanted = list(catalog if names is None else names)
    if unknown := [name for name in wanted if name not in catalog]:
        raise BuildError(f"No such skill: {', '.join(unknown)}. There are: {', '.join(catalog)}.")
    return [catalog[name] for name in dict.fromkeys(wanted)]


# --- the cache -----------------------------------------------------------------------------------


def _artifact(skill: Skill) -> Path:
    return CACHE / f"{skill.name}-{_key(skill)}.wasm"


def _key(skill: Skill) -> str:
    toolchain = _toolchain(skill.toolchain)
    digest = hashlib.sha256()
    parts = [_RECIPE, toolchain.name.encode(), skill.world.encode(), *toolchain.inputs(skill)]
    for part in [
        *parts,
        *(p for item in skill.sources.items() for p in (item[0].encode(), item[1])),
    ]:
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()[:16]


def prepare(name: str, report: Report = print) -> Environment:
    """The environment of a toolchain, ready for use. Raises ``BuildError``."""
    environment = ZIG if name == ZIG.name else _toolchain(name)
    assert isinstance(environment, Environment), name
    with locked(_lock_of(name)):
        environment.prepare(report)
    return environment


def _unusable(name: str, skills: list[Skill], report: Report) -> str | None:
    """Makes the toolchain; why it can't be used, if so."""
    try:
        with locked(_lock_of(name)):
            _toolchain(name).prepare(report)
    except BuildError as error:
        names = ", ".join(skill.name for skill in skills)
        return f"The toolchain {name} is not usable, so these were not built: {names}.\n{error}"
    return None


def _failure(skill: Skill, report: Report) -> str | None:
    """Builds the skill; why it could not be built, if so."""
    # Others may build with the toolchain at the same time, but not make it anew.
    with (
        locked(_lock_of(skill.toolchain), fcntl.LOCK_SH),
        locked(ENVIRONMENTS / f"skill-{skill.name}.lock"),
    ):
        try:
            _build_one(_toolchain(skill.toolchain), skill, report)
        except BuildError as error:
            return f"{skill.name} could not be built with {skill.toolchain}.\n{error}"
    return None


def _build_one(toolchain: Toolchain, skill: Skill, report: Report) -> None:
    artifact = _artifact(skill)
    if artifact.exists():  # built by another process while this one waited for the lock
        return
    started = time.monotonic()
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=CACHE) as folder:
        skill.write_sources(Path(folder))
        result = toolchain.build(skill, Path(folder))
        size = result.stat().st_size
        result.replace(artifact)
    seconds = time.monotonic() - started
    report(f"{skill.name}: {size / 1e6:.1f} MB in {seconds:.1f} s ({toolchain.name})")


def _lock_of(toolchain_name: str) -> Path:
    return ENVIRONMENTS / f"{toolchain_name}.lock"


# --- toolchains ----------------------------------------------------------------------------------


class Toolchain(ABC):
    name: str

    @abstractmethod
    def inputs(self, skill: Skill) -> list[bytes]:
        """What decides the result besides the skill's sources and world."""

    @abstractmethod
    def prepare(self, report: Report) -> None:
        """Makes the toolchain unless it is there. Raises ``BuildError``."""

    @abstractmethod
    def build(self, skill: Skill, folder: Path) -> Path:
        """The component, a file in ``folder``, which holds the sources. Raises ``BuildError``."""


class Wat(Toolchain):
    """Component text, for components that no language would produce."""

    name = "wat"

    def inputs(self, skill: Skill) -> list[bytes]:
        return [version("wasmtime").encode()]

    def prepare(self, report: Report) -> None:
        pass

    def build(self, skill: Skill, folder: Path) -> Path:
        out = folder / "out.wasm"
        try:
            out.write_bytes(wasmtime.wat2wasm(skill.sources[f"{skill.name}.wat"]))
        except wasmtime.WasmtimeError as error:
            raise BuildError(str(error)) from error
        return out


class Environment(ABC):
    """Programs in a folder of their own, which is made from pinned requirements."""

    name: str

    @property
    def environment(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def pins(self) -> Path:
        return PINS / self.name

    @abstractmethod
    def install(self) -> None: ...

    def prepare(self, report: Report) -> None:
        marker = self.environment / ".complete"
        state = hashlib.sha256(
            b"".join(file.read_bytes() for file in sorted(self.pins.iterdir()))
        ).hexdigest()
        if marker.exists() and marker.read_text() == state:
            return
        started = time.monotonic()
        report(f"Making the toolchain {self.name}...")
        shutil.rmtree(self.environment, ignore_errors=True)
        self.install()
        marker.write_text(state)
        report(f"Made the toolchain {self.name} in {time.monotonic() - started:.1f} s")


class PythonEnvironment(Environment):
    """Of Python packages."""

    def install(self) -> None:
        uv = _tool("uv", "It makes the Python environments. Install it with `pip install uv`.")
        _run([uv, "venv", "-q", "--python", self.interpreter(uv), str(self.environment)])
        requirements = str(self.pins / "requirements.txt")
        target = ["--python", str(self.environment / "bin" / "python")]
        _run([uv, "pip", "install", "-q", *target, "--require-hashes", "-r", requirements])

    def interpreter(self, uv: str) -> str:
        """Which Python the environment gets."""
        return sys.executable

    def run(self, command: list[str], folder: Path) -> None:
        bin_folder = self.environment / "bin"
        environment = {
            **os.environ,
            "VIRTUAL_ENV": str(self.environment),
            "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        for variable in ("PYTHONPATH", "PYTHONHOME"):
            environment.pop(variable, None)
        _run([str(bin_folder / command[0]), *command[1:]], folder, environment)


class Zig(PythonEnvironment):
    """A C compiler for components that comes as a Python package, of 400 MB."""

    name = "zig"

    @property
    def compiler(self) -> list[str]:
        return [str(self.environment / "bin" / "python"), "-m", "ziglang", "cc"]


class Pinned(Environment, Toolchain):
    """A toolchain that lives in an environment of its own."""

    def inputs(self, skill: Skill) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.pins.iterdir())]


class PhariaSkill(PythonEnvironment, Pinned):
    """The published SDK. It brings the WIT that it targets."""

    name = "pharia-skill"

    def interpreter(self, uv: str) -> str:
        if sys.version_info[:2] == (3, 11):
            return sys.executable
        command = [uv, "python", "find", "--no-python-downloads", "3.11"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
        try:
            _run([uv, "python", "install", "3.11"])
        except BuildError as error:
            raise BuildError(
                "pharia-skill works with Python 3.11 only; there is none on this machine, and "
                f"it could not be installed. {error}"
            ) from None
        return "3.11"

    def install(self) -> None:
        super().install()
        # The SDK would install these itself, unpinned, in the folder of each skill.
        wheels = next(self.environment.glob("lib/python3.11/site-packages/wasi_wheels"))
        platforms = ["--platform", "any", "--platform", "wasi_0_0_0_wasm32"]
        options = [
            "--require-hashes",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--python-version",
            "3.12",
        ]
        source = ["--find-links", str(wheels), "-r", str(self.pins / "wasi_deps.txt")]
        target = ["--target", str(self.environment / "wasi_deps")]
        self.run(
            ["pip3", "install", "-q", *target, *options, *platforms, *source], self.environment
        )

    def build(self, skill: Skill, folder: Path) -> Path:
        (folder / "wasi_deps").symlink_to(self.environment / "wasi_deps")
        command = [
            "pharia-skill",
            "build",
            skill.name,
            "--no-interactive",
            "--skill-type",
            skill.world,
        ]
        self.run(command, folder)
        return folder / f"{skill.name}.wasm"


class ComponentizePy(PythonEnvironment, Pinned):
    """Python without an SDK, for every WIT line."""

    name = "componentize-py"

    def inputs(self, skill: Skill) -> list[bytes]:
        return [
            *super().inputs(skill),
            wit.text(skill.wit).encode(),
            ",".join(skill.features).encode(),
        ]

    def build(self, skill: Skill, folder: Path) -> Path:
        out = folder / "out.wasm"
        (folder / "skill.wit").write_text(wit.text(skill.wit), encoding="utf-8")
        features = ["--features", ",".join(skill.features)] if skill.features else []
        target = ["-d", "skill.wit", "-w", skill.world, *features]
        self.run(
            ["componentize-py", "-q", *target, "componentize", skill.name, "-o", str(out)], folder
        )
        return out


class ComponentizeJs(Pinned):
    """JavaScript."""

    name = "componentize-js"

    def inputs(self, skill: Skill) -> list[bytes]:
        return [*super().inputs(skill), _ungated(wit.text(skill.wit)).encode()]

    def install(self) -> None:
        npm = _tool(
            "npm", "It comes with Node.js 20 or newer, which JavaScript skills are built with."
        )
        shutil.copytree(self.pins, self.environment)
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], self.environment)

    def build(self, skill: Skill, folder: Path) -> Path:
        node = _tool("node", "JavaScript skills are built with Node.js 20 or newer.")
        out = folder / "out.wasm"
        wit_file = folder / "skill.wit"
        wit_file.write_text(_ungated(wit.text(skill.wit)), encoding="utf-8")
        script = str(self.environment / "build.mjs")
        _run([node, script, f"{skill.name}.js", str(wit_file), skill.world, str(out)], folder)
        return out


def _ungated(text: str) -> str:
    """The WIT parser of componentize-js does not know ``@since``; it does not affect the types."""
    return re.sub(r"^\s*@since\([^)]*\)\n", "", text, flags=re.M)


_TOOLCHAINS: dict[str, Toolchain] = {
    toolchain.name: toolchain
    for toolchain in (PhariaSkill(), ComponentizeJs(), ComponentizePy(), Wat())
}
"""The slowest first: what is begun last should not be long."""
ZIG = Zig()


def _toolchain(name: str) -> Toolchain:
    if name not in _TOOLCHAINS:
        raise BuildError(f"No such toolchain: {name}. There are: {', '.join(_TOOLCHAINS)}.")
    return _TOOLCHAINS[name]


def _tool(name: str, purpose: str) -> str:
    """Path of a program: beside the running interpreter, or on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise BuildError(f"The program `{name}` is missing. {purpose}")
    return found


def _run(
    command: list[str], folder: Path | None = None, environment: dict[str, str] | None = None
) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        if len(lines) > _FIRST_LINES + _LAST_LINES:
            lines = [*lines[:_FIRST_LINES], "[...]", *lines[-_LAST_LINES:]]
        program = " ".join([Path(command[0]).name, *command[1:3]])
        raise BuildError(f"`{program}` failed:\n" + "\n".join(lines))


# --- the command ---------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description="Build skills into WebAssembly components.")
    parser.add_argument("names", nargs="*", help="which skills; by default all")
    arguments = parser.parse_args()
    try:
        built = build(arguments.names or None)
    except BuildError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    for file in built.values():
        print(file.relative_to(ROOT))
    return 0


def _publish(source: Path, target: Path) -> Path:
    """Copies atomically: a kernel that watches the folder sees whole files, if they changed at all.

    A copy and not a link, so that writing to the target can't damage the cache.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.exists() and filecmp.cmp(source, target, shallow=False)):
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(source, unfinished)
        unfinished.replace(target)
    return target


if __name__ == "__main__":
    sys.exit(main())
