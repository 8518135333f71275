"""The skills that are measured, compiled once and kept in ``skill_build_cache/bench``."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from wasmtime import Engine
from wasmtime.component import Component

from pharia_kernel.config.settings import GIB
from pharia_kernel.engine import binding
from pharia_kernel.engine.api import Artifact
from pharia_kernel.engine.compiler import CompilerProcess, CompilerSettings
from tools import build_skills

CACHE = build_skills.CACHE / "bench"
ARTIFACTS = CACHE / "artifacts"
"""Used by every kernel that is started here, so that all of them start warm."""
_CUSTOM_SECTION = 0
_COMPILE_SECONDS = 600.0


def build(names: Iterable[str]) -> dict[str, Path]:
    """The components of test skills. Raises ``build_skills.BuildError``."""
    return build_skills.build(names, report=lambda line: print(f"  {line}", flush=True))


def variant(wasm: bytes, mark: str) -> bytes:
    """The same component with another digest: ``mark`` goes into a custom section at the end."""
    name = b"benchmark"
    content = bytes([len(name)]) + name + mark.encode()
    assert len(content) < 128  # one byte of LEB128
    return wasm + bytes([_CUSTOM_SECTION, len(content)]) + content


def digest(wasm: bytes) -> str:
    return f"sha256:{hashlib.sha256(wasm).hexdigest()}"


def compile_all(components: Sequence[bytes]) -> list[Artifact]:
    """Artifacts of the kernel's own compiler, from its cache where it has them."""
    return asyncio.run(_compile_all(components))


async def _compile_all(components: Sequence[bytes]) -> list[Artifact]:
    compiler = CompilerProcess(
        CompilerSettings(
            directory=ARTIFACTS,
            capacity=10 * GIB,
            jobs=1,
            timeout=_COMPILE_SECONDS,
            memory_limit=4 * GIB,
        )
    )
    artifacts = []
    for place, wasm in enumerate(components, 1):
        artifact = await compiler.cached(digest(wasm))
        if artifact is None:
            print(f"  compiling component {place} of {len(components)} ...", flush=True)
            artifact = await compiler.compile(digest(wasm), wasm)
        artifacts.append(artifact)
    return artifacts


async def forget(component_digest: str) -> None:
    """Remove an artifact that only one run of the benchmarks can use."""
    settings = CompilerSettings(
        directory=ARTIFACTS, capacity=10 * GIB, jobs=1, timeout=1.0, memory_limit=GIB
    )
    await CompilerProcess(settings).discard(component_digest)


def forget_now(wasm: bytes) -> None:
    """Remove the artifact of a component that is not built again."""
    asyncio.run(forget(digest(wasm)))


def compile_plainly(wasm: bytes) -> Path:
    """Serialized by ``wasmtime`` with its default configuration: for the bare cost."""
    file = CACHE / f"plain-{digest(wasm)[7:23]}-{binding.VERSION}.cwasm"
    if not file.exists():
        print("  compiling for the bare measurement ...", flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".tmp")
        unfinished.write_bytes(Component(Engine(), wasm).serialize())
        unfinished.replace(file)
    return file


def publish(source: Path | bytes, target: Path) -> None:
    """Put a component where a kernel watches, whole at once."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    if isinstance(source, bytes):
        unfinished.write_bytes(source)
    else:
        shutil.copyfile(source, unfinished)
    unfinished.replace(target)
