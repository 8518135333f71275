"""Compiles the built test skills to machine code, into the cache that the tests' kernels share.

    python -m tools.compile_skills

Kernels would do that when they start. Two that start at the same time would do it twice, and tests
that wait for a kernel keep one core busy at best.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time

from pharia_kernel.engine.compiler import CompilerProcess, CompilerSettings
from pharia_kernel.errors import SkillLoadError
from tools.build_skills import CACHE, BuildError, build, test_skills

ARTIFACTS = CACHE / "artifacts"
_JOBS = 2
"""A compiler uses all cores, but not at its beginning and its end."""


async def compile_all(names: list[str]) -> None:
    """Of test skills. Raises ``BuildError``, and ``SkillLoadError`` if one can't be compiled."""
    compiler = CompilerProcess(
        CompilerSettings(
            directory=ARTIFACTS, capacity=8 << 30, jobs=_JOBS, timeout=600.0, memory_limit=4 << 30
        )
    )
    components = [file.read_bytes() for file in build(names, report=lambda _: None).values()]
    async with asyncio.TaskGroup() as group:
        for wasm in components:
            digest = f"sha256:{hashlib.sha256(wasm).hexdigest()}"
            group.create_task(compiler.compile(digest, wasm))


def main() -> int:
    # Those that are written by hand take milliseconds, and some are there to be refused.
    names = [name for name, skill in test_skills().items() if skill.toolchain != "wat"]
    started = time.monotonic()
    failed = False
    try:
        asyncio.run(compile_all(names))
    except* (BuildError, SkillLoadError) as group:
        failed = True
        for error in group.exceptions:
            print(f"error: {error}", file=sys.stderr)
    if failed:
        return 1
    print(f"{len(names)} skills are compiled ({time.monotonic() - started:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
