"""Components that come, change and go while a kernel serves; kernels that are killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest_asyncio
import wasmtime

from tests.integration.backend import when
from tests.integration.conftest import NewHome, inference
from tests.integration.load import load
from tests.skills import hostile
from tests.support.faulty_llm import FaultyLlm, proper
from tests.support.kernel import (
    PATIENCE,
    KernelHome,
    KernelProcess,
    problem,
    temporary_home,
    until,
)


def saying(text: str) -> bytes:
    """A tiny component that always answers with this text."""
    json = f'"{text}"'.encode()
    length = len(json)
    code = f"(call $ok (i32.const {hostile.TEXT}) (i32.const {length}))"
    return bytes(wasmtime.wat2wasm(hostile.function_skill(code, text=json)))


def slow_to_compile() -> bytes:
    """A component with one very long function."""
    step = "(local.set $i (i32.mul (i32.xor (local.get $i) (i32.const {})) (i32.const 3)))"
    json = b'"slow"'
    code = "".join(step.format(n) for n in range(20_000))
    answer = f"(call $ok (i32.const {hostile.TEXT}) (i32.const {len(json)}))"
    return bytes(wasmtime.wat2wasm(hostile.function_skill(code + answer, text=json)))


def digest_of(component: bytes) -> str:
    return f"sha256:{hashlib.sha256(component).hexdigest()}"


async def serves(kernel: KernelProcess, component: bytes, skill: str) -> None:
    digest = digest_of(component)

    async def is_serving() -> bool:
        detail = await kernel.detail(skill)
        return detail is not None and detail["digest"] == digest

    await until(is_serving, f"`{skill}` serves {digest}", seconds=120)


async def reports(kernel: KernelProcess, code: str, skill: str) -> None:
    async def is_reported() -> bool:
        detail = await kernel.detail(skill)
        return bool(detail and detail["error"] and detail["error"]["code"] == code)

    await until(is_reported, f"`{skill}` reports {code}")


async def is_gone(kernel: KernelProcess, skill: str) -> None:
    async def not_listed() -> bool:
        return await kernel.detail(skill) is None

    await until(not_listed, f"`{skill}` is not listed any more")


class Site(NamedTuple):
    """A kernel, and the directories that it watches."""

    home: KernelHome
    kernel: KernelProcess


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(scripted_backend: FaultyLlm) -> AsyncGenerator[Site, None]:
    """Starts without a skill; each test has names of its own."""
    namespaces = {"dev": (), "one": (), "two": ()}
    with temporary_home(namespaces=namespaces, **inference(scripted_backend)) as home:
        async with home.running() as kernel:
            assert (await kernel.client.get("/v1/skills")).json() == []
            yield Site(home, kernel)


# --- change ---------------------------------------------------------------------------------------


async def test_a_skill_is_replaced_again_and_again(site: Site, components: dict[str, Path]) -> None:
    home, kernel = site
    versions = [(saying(f"version {n}"), f"version {n}") for n in range(12)]
    versions.insert(4, (components["greet"].read_bytes(), "Hello Homer"))
    versions.insert(8, (components["greet_02"].read_bytes(), "Hello Homer"))
    first, _ = versions[0]
    home.deploy("changing", first)
    await serves(kernel, first, "changing")
    answers: Counter[str] = Counter()

    def judge(response: httpx.Response) -> str:
        answers[str(response.json())] += 1
        return str(response.status_code)

    async with load(kernel, "changing", judge=judge) as requests:
        for component, answer in versions:
            home.deploy("changing", component)
            await serves(kernel, component, "changing")
            assert (await kernel.run("changing", {"name": "Homer"})).json() == answer
            await requests.goes_on()
    assert answers.keys() == {answer for _, answer in versions}


async def test_a_new_request_gets_the_new_version_and_a_running_one_keeps_the_old(
    site: Site, components: dict[str, Path], backend: FaultyLlm
) -> None:
    home, kernel = site
    released = asyncio.Event()
    backend.default = when(released, proper(tokens=2))
    old, new = components["chatty"].read_bytes(), saying("new")
    home.deploy("running", old)
    await serves(kernel, old, "running")
    old_run = asyncio.create_task(kernel.run("running", {"model": "m", "text": "Hi"}))
    await asyncio.wait_for(backend.arrived.wait(), PATIENCE)
    home.deploy("running", new)
    await serves(kernel, new, "running")
    assert (await kernel.run("running")).json() == "new"
    assert not old_run.done()
    released.set()
    assert (await old_run).json() == "token token"


async def test_a_broken_file_keeps_the_old_version(site: Site, components: dict[str, Path]) -> None:
    home, kernel = site
    good, better = saying("good"), saying("better")
    home.deploy("breaking", good)
    await serves(kernel, good, "breaking")
    async with load(kernel, "breaking"):
        for broken, code in (
            (b"not WebAssembly", "not_a_component"),
            (components["too_new"].read_bytes(), "wit_not_supported_yet"),
            (components["unsatisfied_function"].read_bytes(), "unsatisfied_import"),
            (good[: len(good) // 2], "compile_failed"),
        ):
            home.deploy("breaking", broken)
            await reports(kernel, code, "breaking")
            detail = await kernel.detail("breaking")
            assert detail
            assert (detail["status"], detail["digest"]) == ("ready", digest_of(good))
            assert (await kernel.run("breaking")).json() == "good"
        home.deploy("breaking", better)
        await serves(kernel, better, "breaking")
    detail = await kernel.detail("breaking")
    assert detail
    assert detail["error"] is None


async def test_a_file_that_is_written_slowly(site: Site) -> None:
    """Not every deployer renames: half a file must do no harm."""
    home, kernel = site
    old, new = saying("old"), saying("new " * 1000)
    home.deploy("written", old)
    await serves(kernel, old, "written")
    async with load(kernel, "written") as requests:
        with home.file("written").open("wb") as file:
            for start in range(0, len(new), len(new) // 6):
                file.write(new[start : start + len(new) // 6])
                file.flush()
                await requests.goes_on(20)
        await serves(kernel, new, "written")
    detail = await kernel.detail("written")
    assert detail
    assert detail["error"] is None


# --- coming and going -----------------------------------------------------------------------------


async def test_skills_come_and_go(site: Site) -> None:
    home, kernel = site
    component = saying("here")
    for _ in range(3):
        assert problem(await kernel.run("fleeting")) == (404, "skill_not_found")
        home.deploy("fleeting", component)
        await serves(kernel, component, "fleeting")
        assert (await kernel.run("fleeting")).json() == "here"
        home.remove("fleeting")
        await is_gone(kernel, "fleeting")
    assert problem(await kernel.run("fleeting")) == (404, "skill_not_found")


async def test_other_files_are_no_skills(site: Site) -> None:
    home, kernel = site
    folder = home.folder / "dev"
    (folder / "README.md").write_text("not a skill")
    (folder / ".hidden.wasm").write_bytes(saying("hidden"))
    (folder / "folder.wasm").mkdir()
    (folder / "outside.wasm").symlink_to(home.folder / "config.toml")
    component = saying("real")
    home.deploy("real.with.dots", component)
    await serves(kernel, component, "real.with.dots")
    listing = (await kernel.client.get("/v1/skills")).json()
    assert not {"dev/README", "dev/.hidden", "dev/folder", "dev/outside"} & set(listing)
    assert (await kernel.run("real.with.dots")).json() == "real"


async def test_the_same_component_in_two_namespaces(site: Site) -> None:
    home, kernel = site
    component = saying("shared")
    for namespace in ("one", "two"):
        home.deploy("shared", component, namespace)
        await serves(kernel, component, f"{namespace}/shared")
    home.remove("shared", "one")
    await is_gone(kernel, "one/shared")
    assert (await kernel.run("two/shared")).json() == "shared"


async def test_a_directory_that_goes_and_comes_back(site: Site) -> None:
    home, kernel = site
    component = saying("back")
    home.deploy("resident", component, "one")
    await serves(kernel, component, "one/resident")
    away = home.folder / "away"
    (home.folder / "one").rename(away)

    async def state() -> str:
        return str((await kernel.client.get("/v1/namespaces/one")).json()["state"])

    async def is_stale() -> bool:
        return await state() == "stale"

    async def is_in_order() -> bool:
        return await state() == "ok"

    await until(is_stale, "the namespace is stale")
    assert (await kernel.run("one/resident")).json() == "back"
    away.rename(home.folder / "one")
    await until(is_in_order, "the namespace is in order")
    assert (await kernel.run("one/resident")).json() == "back"


async def test_eviction_fails_no_run(site: Site) -> None:
    home, kernel = site
    component = saying("again")
    home.deploy("evicted", component)
    await serves(kernel, component, "evicted")
    path = "/cached_skills/dev/evicted"
    async with load(kernel, "evicted") as requests:
        for _ in range(5):
            assert (await kernel.client.delete(path)).status_code == 200
            await requests.goes_on()
    answer = (await kernel.client.delete("/cached_skills/dev/no-such-skill")).json()
    assert answer == "Skill was not present in cache"


# --- the artifact cache ---------------------------------------------------------------------------


Damage = Callable[[Path, Path], object]
"""What happens to an artifact and its sidecar."""


def flip(artifact: Path, _: Path) -> None:
    code = bytearray(artifact.read_bytes())
    code[len(code) // 2] ^= 0xFF
    artifact.write_bytes(code)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


DAMAGES: dict[str, Damage] = {
    "flipped": flip,
    "truncated": lambda artifact, _: truncate(artifact),
    "removed": lambda artifact, _: artifact.unlink(),
    "sidecar-removed": lambda _, sidecar: sidecar.unlink(),
}


async def compiled(home: KernelHome, names: Iterable[str]) -> set[str]:
    """The skills that a new kernel had to compile; it serves them all."""
    async with home.running() as kernel:
        for name in names:
            assert (await kernel.run(name)).json() == name
        log = kernel.messages()
    digests = {name: digest_of(saying(name)) for name in names}
    return {n for n in names if any(m.startswith(f"compiled {digests[n]}") for m in log)}


async def test_corrupt_artifacts_are_built_again(new_home: NewHome, tmp_path: Path) -> None:
    home = new_home(artifacts=tmp_path / "artifacts")
    names = {*DAMAGES, "undamaged"}
    for name in names:
        home.deploy(name, saying(name))
    assert await compiled(home, names) == names

    for name, damage in DAMAGES.items():
        (artifact,) = home.artifacts.glob(f"{digest_of(saying(name))[7:]}*.cwasm")
        damage(artifact, artifact.with_suffix(".json"))
    assert await compiled(home, names) == set(DAMAGES)

    (home.artifacts / "key").unlink()
    assert await compiled(home, names) == names, "artifacts of another key are foreign"


async def test_kernels_that_are_killed_at_any_stage(new_home: NewHome, tmp_path: Path) -> None:
    """SIGKILL from the first moment on up to serving: processes end, the next kernel comes back."""
    home = new_home(artifacts=tmp_path / "artifacts")
    home.deploy("slow", slow_to_compile())
    home.deploy("tiny", saying("tiny"))

    async def nothing(_: KernelProcess) -> bool:
        return True

    async def listens(kernel: KernelProcess) -> bool:
        return any(m.startswith("Listening") for m in kernel.messages())

    async def compiles(kernel: KernelProcess) -> bool:
        return any("compile_worker" in " ".join(p.cmdline()) for p in children(kernel))

    async def writes(_: KernelProcess) -> bool:
        files = [*home.artifacts.glob("*.tmp"), *home.artifacts.glob("*.cwasm")]
        return any(file.stat().st_size > 0 for file in files)

    async def has_compiled_one(_: KernelProcess) -> bool:
        return len(list(home.artifacts.glob("*.json"))) >= 1

    async def has_compiled_all(_: KernelProcess) -> bool:
        return len(list(home.artifacts.glob("*.json"))) == 2

    stages = (nothing, listens, compiles, writes, has_compiled_one, has_compiled_all)
    for stage in stages:
        await kill_when(home, stage)
    async with home.running() as kernel:
        for name in ("slow", "tiny"):
            assert (await kernel.run(name)).json() == name


def children(kernel: KernelProcess) -> list[psutil.Process]:
    try:
        return psutil.Process(kernel.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


async def kill_when(home: KernelHome, stage: Callable[[KernelProcess], Awaitable[bool]]) -> None:
    kernel = home.start()

    async def is_reached() -> bool:
        assert kernel.process.poll() is None, kernel.log()
        return await stage(kernel)

    try:
        await until(is_reached, stage.__name__, seconds=90)
        offspring = children(kernel)
    finally:
        kernel.kill()

    async def all_gone() -> bool:
        return not any(is_alive(process.pid) for process in offspring)

    await until(all_gone, "engines and compilers end with their kernel")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
