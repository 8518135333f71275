"""The kernel's side of compiling: the cache first, then a process that can be killed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from msgspec import Struct, structs

from pharia_kernel import errors
from pharia_kernel.engine import binding, embedded
from pharia_kernel.engine.api import Artifact, ComponentInfo
from pharia_kernel.engine.artifacts import ArtifactCache
from pharia_kernel.engine.inspector import inspect
from pharia_kernel.errors import CompileFailed, CompilerLost, SkillLoadError
from pharia_kernel.single_flight import SingleFlight

log = logging.getLogger("pharia_kernel.engine")

_FAULT = 3


class CompilerSettings(Struct, frozen=True, kw_only=True):
    directory: Path
    capacity: int
    """Bytes of artifacts kept."""
    jobs: int
    """Compiler processes at once. Each uses all cores."""
    timeout: float
    """Seconds."""
    memory_limit: int
    """Bytes."""


class CompilerProcess:
    """Implements ``engine.api.Compiler``."""

    def __init__(
        self, settings: CompilerSettings, in_use: Callable[[Path], bool] = lambda _: False
    ) -> None:
        """``in_use`` tells of artifacts that must stay in the cache. Raises ``OSError`` if the
        cache's directory can't be used."""
        self._settings = settings
        self._cache = ArtifactCache(
            settings.directory, settings.capacity, binding.config_fingerprint()
        )
        self._jobs = asyncio.Semaphore(settings.jobs)
        self._flights: SingleFlight[str, Artifact] = SingleFlight()
        self._in_use = in_use

    async def cached(self, digest: str) -> Artifact | None:
        return await asyncio.to_thread(self._cache.find, digest)

    async def compile(self, digest: str, wasm: bytes) -> Artifact:
        return await self._flights.do(digest, lambda: self._compile(digest, wasm))

    async def discard(self, digest: str) -> None:
        """Forget an artifact that turned out not to be loadable."""
        await asyncio.to_thread(self._cache.discard, digest)

    async def _compile(self, digest: str, wasm: bytes) -> Artifact:
        info = await asyncio.to_thread(_inspected, digest, wasm)
        artifact = await asyncio.to_thread(self._cache.renew, digest, info)
        if artifact:
            return artifact
        async with self._jobs:
            artifact = await self._compile_now(digest, wasm, info)
        fresh = artifact.path  # will be in use in a moment
        await asyncio.to_thread(self._cache.trim, lambda path: path == fresh or self._in_use(path))
        return artifact

    async def _compile_now(self, digest: str, wasm: bytes, info: ComponentInfo) -> Artifact:
        began = time.monotonic()
        temporary = await asyncio.to_thread(self._cache.temporary)
        try:
            await self._run_process(wasm, temporary)
            artifact = await asyncio.to_thread(self._cache.store, digest, temporary, info)
        finally:
            temporary.unlink(missing_ok=True)
        log.info("compiled %s (%d bytes) in %.1f s", digest, len(wasm), time.monotonic() - began)
        return artifact

    async def _run_process(self, wasm: bytes, target: Path) -> None:
        source = await asyncio.to_thread(_spool, wasm)
        with source:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-m", "pharia_kernel.engine.compile_worker",
                str(os.getpid()), str(self._settings.memory_limit), str(target),
                stdin=source,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": os.defpath, "RUST_BACKTRACE": "0"},
                cwd="/",
            )  # fmt: skip
        try:
            async with asyncio.timeout(self._settings.timeout):
                stdout, stderr = await process.communicate()
        except TimeoutError:
            raise CompileFailed(
                f"Compiling took longer than {self._settings.timeout:g} s (`compile-timeout`)."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        if process.returncode == _FAULT:
            raise _reported(stdout)
        if process.returncode:
            raise self._broken(process.returncode, stderr)

    def _broken(self, code: int, stderr: bytes) -> SkillLoadError:
        log.error(
            "compiler ended with status %d: %s", code, stderr.decode(errors="replace")[-4000:]
        )
        # Its memory limit makes it abort; who is killed was killed by somebody else.
        if code == -signal.SIGABRT or b"MemoryError" in stderr:
            limit = self._settings.memory_limit >> 20
            return CompileFailed(
                f"The compiler was stopped (status {code}), most likely because it needed more "
                f"than {limit} MiB (`compile-memory-limit`)."
            )
        return CompilerLost(f"The compiler ended with status {code}; see the kernel's log.")


def _inspected(digest: str, wasm: bytes) -> ComponentInfo:
    """All that the component says of itself; raises ``SkillLoadError``."""
    info = inspect(wasm)
    try:
        return structs.replace(info, embedded=embedded.read(wasm, info.kind))
    except embedded.UselessMetadata as error:
        log.warning("custom section `%s` of %s is ignored: %s", embedded.SECTION, digest, error)
        return info


def _spool(wasm: bytes) -> IO[Any]:
    """A nameless file with the component, at its beginning."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(wasm)
    file.flush()
    file.seek(0)
    return file


def _reported(stdout: bytes) -> SkillLoadError:
    """The error that the compiler process printed."""
    report = json.loads(stdout)
    for kind in (errors.UnsatisfiedImport, errors.CompileFailed):
        if kind.code == report["code"]:
            return kind(report["detail"])
    return CompileFailed(report["detail"])
