"""``pharia-kernel dev`` in a process of its own, as authors run it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from types import ModuleType

import httpx

from tests.support.kernel import COMMAND, PATIENCE, KernelProcess, until
from tools import build_skills

ROOT = Path(__file__).parents[2]
SDK_TESTS = ROOT / "sdk" / "tests"
SKILLS = SDK_TESTS / "skills"

_LISTENING = re.compile(r"^Serving from source, without a sandbox, at (\S+)$", re.M)


def sdk_components() -> ModuleType:
    """What builds the components of the SDK's own test skills."""
    file = SDK_TESTS / "sdk_components.py"
    spec = importlib.util.spec_from_file_location("sdk_components", file)
    assert spec and spec.loader
    module = sys.modules.get("sdk_components") or importlib.util.module_from_spec(spec)
    sys.modules["sdk_components"] = module
    spec.loader.exec_module(module)
    return module


def published_python() -> Path:
    """Of the environment with the published SDK, which is made if there is none."""
    toolchain = build_skills.prepare("pharia-skill")
    assert isinstance(toolchain, build_skills.Pinned)
    return toolchain.environment / "bin" / "python"


class Author:
    """A folder with sources."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        """In one step, as editors save."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.saving")
        unfinished.write_text(text)
        unfinished.replace(file)
        return file

    def environment(self, settings: dict[str, object]) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        cache = {"WASMTIME_CACHE_DIR": str(self.folder / ".cache")}
        return {**kept, **cache, **{key.upper(): str(value) for key, value in settings.items()}}

    def command(self, *options: str) -> list[str]:
        return [str(COMMAND), "dev", *options, "--address", "127.0.0.1:0"]

    @contextlib.asynccontextmanager
    async def serving(self, *options: str, **settings: object) -> AsyncGenerator[DevProcess, None]:
        """A kernel in development mode that listens. In the end it is told to stop, and has to
        exit with 0."""
        log = self.folder / ".log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 (it does not wait)
                self.command(*options),
                cwd=self.folder,
                env=self.environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        kernel = DevProcess(process, log)
        try:
            await kernel.listening()
            yield kernel
            if process.poll() is None:
                kernel.terminate()
                assert await kernel.exit() == 0, kernel.log()
            assert "pharia_kernel/dev" not in kernel.log(), kernel.log()
        finally:
            kernel.kill()
            await kernel.close()


class DevProcess(KernelProcess):
    """A kernel in development mode, and a client of it."""

    async def listening(self) -> None:
        async def address() -> str | None:
            assert self.process.poll() is None, self.log()
            found = _LISTENING.search(self.log())
            return found and found[1]

        self._client = httpx.AsyncClient(
            base_url=await until(address, "the kernel listens"),
            timeout=httpx.Timeout(PATIENCE * 4),
            trust_env=False,
        )

    async def logged(self, text: str) -> None:
        """Wait until the terminal shows it."""

        async def shown() -> bool:
            return text in self.log()

        await until(shown, f"{text!r} is shown")

    async def answers(self, skill: str, input: object, expected: object) -> None:
        """Wait until a run answers so; every run before that has to end well, too."""

        async def answered() -> bool:
            answer = await self.run(skill, input)
            assert answer.status_code == 200, answer.text
            return bool(answer.json() == expected)

        await until(answered, f"{skill} answers {expected!r}")

    def children(self) -> list[int]:
        """Process ids of all that the kernel, or a child of it, has started."""
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    waiting += map(int, task.read_text().split())
            found.append(pid)
        return found[1:]


@contextlib.contextmanager
def author() -> Iterator[Author]:
    with tempfile.TemporaryDirectory(prefix="author-", ignore_cleanup_errors=True) as folder:
        yield Author(Path(folder).resolve())


def copy_skills(to: Author, *names: str) -> list[str]:
    """Sources of the SDK's test skills, with the modules that they import; their file names."""
    shutil.copytree(SKILLS / "lib", to.folder / "lib", dirs_exist_ok=True)
    for name in names:
        shutil.copyfile(SKILLS / f"{name}.py", to.folder / f"{name}.py")
    return [f"{name}.py" for name in names]
