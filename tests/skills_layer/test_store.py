"""Deploying: what serves while files change, fail, and disappear."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from pharia_kernel.engine.api import Host, Returned
from pharia_kernel.errors import (
    CompileFailed,
    EngineLost,
    NamespaceMisconfigured,
    NotAComponent,
    SkillNotFound,
    SkillNotReady,
    SkillUnavailable,
)
from pharia_kernel.skills.chat import ChatSkill
from pharia_kernel.skills.deployment import ComponentSource
from pharia_kernel.skills.registry.base import Blob
from pharia_kernel.skills.registry.file import FileRegistry
from pharia_kernel.skills.types import SkillKind, SkillStatus, SkillType
from tests.skills_layer.support import Kernel, digest_of, error_of, eventually, kernel, parse


@pytest.fixture
async def k() -> AsyncGenerator[Kernel, None]:
    async with kernel() as made:
        yield made


class Directory:
    """A real file registry, and a namespace that holds all of it."""

    def __init__(self, k: Kernel, path: Path, namespace: str = "dev") -> None:
        self.k = k
        self.namespace = namespace
        self.registry = FileRegistry(path)
        path.mkdir(exist_ok=True)

    def write(self, name: str, text: str) -> None:
        temporary = self.registry.directory / f"{name}.tmp"
        temporary.write_text(text)
        temporary.rename(self.registry.directory / f"{name}.wasm")

    def delete(self, name: str) -> None:
        (self.registry.directory / f"{name}.wasm").unlink()

    def announce(self, *names: str) -> None:
        sources = {name: ComponentSource(self.registry, name) for name in names}
        self.k.store.configure(self.namespace, sources)

    def deploy(self, name: str, text: str) -> None:
        self.write(name, text)
        self.announce(name)


@pytest.fixture
def files(k: Kernel, tmp_path: Path) -> Directory:
    return Directory(k, tmp_path / "dev")


def gate(k: Kernel, text: str) -> asyncio.Event:
    return k.compiler.gates.setdefault(text, asyncio.Event())


# --- becoming ready -------------------------------------------------------------------------------


async def test_a_skill_is_compiled_and_loaded_without_a_request(
    k: Kernel, files: Directory
) -> None:
    files.deploy("greet", "function:greet")
    await eventually(lambda: k.pool.loaded == {"function:greet"})
    await eventually(lambda: k.info("dev/greet").status is SkillStatus.READY)

    info = k.info("dev/greet")
    assert info.kind is SkillKind.FUNCTION
    assert info.wit_version == "0.3.11"
    assert info.digest == digest_of("function:greet")
    assert info.size == len("function:greet")
    assert info.error is None
    assert k.store.cached() == [parse("dev/greet")]


async def test_requests_wait_for_the_first_version(k: Kernel, files: Directory) -> None:
    opened = gate(k, "function:slow")
    files.deploy("slow", "function:slow")
    requests = [asyncio.create_task(k.run("dev/slow")) for _ in range(10)]
    await eventually(lambda: k.compiler.started)
    assert k.info("dev/slow").status is SkillStatus.PREPARING
    assert not any(request.done() for request in requests)

    opened.set()
    assert await asyncio.gather(*requests) == ["function:slow"] * 10
    assert k.compiler.compiled["function:slow"] == 1


async def test_one_component_in_several_places_is_compiled_and_loaded_once(
    k: Kernel, tmp_path: Path
) -> None:
    directories = [Directory(k, tmp_path / name, name) for name in ("a", "b", "c")]
    opened = gate(k, "function:same")
    for directory in directories:
        directory.deploy("greet", "function:same")
    await eventually(lambda: k.compiler.started)
    opened.set()
    for namespace in "abc":
        assert await k.run(f"{namespace}/greet") == "function:same"
    assert k.compiler.started == ["function:same"]
    assert k.pool.loads["function:same"] == 1

    k.store.configure("a", {})
    k.store.configure("b", {})
    assert await k.run("c/greet") == "function:same"
    assert k.pool.unloads["function:same"] == 0
    k.store.configure("c", {})
    await eventually(lambda: k.pool.unloads["function:same"] == 1)


async def test_a_waiter_that_leaves_does_not_stop_the_preparation_for_others(
    k: Kernel, tmp_path: Path
) -> None:
    a, b = (Directory(k, tmp_path / name, name) for name in ("a", "b"))
    opened = gate(k, "function:same")
    a.deploy("greet", "function:same")
    await eventually(lambda: k.compiler.started)
    b.deploy("greet", "function:same")
    version = k.store._versions._versions[digest_of("function:same")]
    await eventually(lambda: version.users == 2)
    k.store.configure("a", {})
    opened.set()
    assert await k.run("b/greet") == "function:same"
    assert not k.compiler.cancelled


async def test_an_artifact_from_an_earlier_life_is_not_compiled_again(
    k: Kernel, files: Directory
) -> None:
    await k.compiler.compile(digest_of("function:old"), b"function:old")
    files.deploy("old", "function:old")
    assert await k.run("dev/old") == "function:old"
    assert k.compiler.compiled["function:old"] == 1


# --- new versions ---------------------------------------------------------------------------------


async def test_the_old_version_serves_until_the_new_one_is_ready(
    k: Kernel, files: Directory
) -> None:
    files.deploy("greet", "function:1")
    assert await k.run("dev/greet") == "function:1"
    opened = gate(k, "function:2")

    files.deploy("greet", "function:2")
    await eventually(lambda: "function:2" in k.compiler.started)
    assert await k.run("dev/greet") == "function:1"
    info = k.info("dev/greet")
    assert (info.status, info.updating_to) == (SkillStatus.READY, digest_of("function:2"))
    assert info.digest == digest_of("function:1")

    opened.set()
    await eventually(lambda: k.info("dev/greet").digest == digest_of("function:2"))
    assert await k.run("dev/greet") == "function:2"
    await eventually(lambda: k.pool.loaded == {"function:2"})
    assert k.info("dev/greet").updating_to is None


async def test_running_ones_finish_on_the_old_version(k: Kernel, files: Directory) -> None:
    release, started = asyncio.Event(), asyncio.Event()

    async def wait(input: bytes, host: Host) -> Returned:
        started.set()
        await release.wait()
        return Returned(b'"finished on 1"')

    k.pool.guests["function:1"] = wait
    files.deploy("greet", "function:1")
    running = asyncio.create_task(k.run("dev/greet"))
    await started.wait()
    files.deploy("greet", "function:2")
    await eventually(lambda: k.info("dev/greet").digest == digest_of("function:2"))

    assert await k.run("dev/greet") == "function:2"
    assert "function:1" in k.pool.loaded
    release.set()
    assert await running == "finished on 1"
    await eventually(lambda: k.pool.loaded == {"function:2"})


async def test_no_request_fails_while_versions_are_replaced(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "function:0")
    stop = asyncio.Event()
    answers: set[str] = set()

    async def client() -> None:
        while not stop.is_set():
            answers.add(await k.run("dev/greet"))

    clients = [asyncio.create_task(client()) for _ in range(8)]
    for version in range(10):
        files.deploy("greet", f"function:{version}")
        wanted = f"function:{version}"
        await eventually(lambda: wanted in answers)  # noqa: B023 (called at once)
    stop.set()
    await asyncio.gather(*clients)
    assert answers == {f"function:{version}" for version in range(10)}
    await eventually(lambda: k.pool.loaded == {"function:9"})


async def test_a_newer_file_cancels_what_is_being_prepared(k: Kernel, files: Directory) -> None:
    gate(k, "function:stale")
    files.deploy("greet", "function:stale")
    await eventually(lambda: k.compiler.started == ["function:stale"])

    files.deploy("greet", "function:new")
    assert await k.run("dev/greet") == "function:new"
    assert k.compiler.cancelled == ["function:stale"]
    assert k.pool.loads["function:stale"] == 0


async def test_a_preparation_that_is_stale_while_it_loads_is_unloaded(
    k: Kernel, files: Directory
) -> None:
    k.pool.load_gate = asyncio.Event()
    files.deploy("greet", "function:stale")
    await eventually(lambda: k.pool.loads["function:stale"])
    files.deploy("greet", "function:new")
    await eventually(lambda: k.pool.loads["function:new"])
    k.pool.load_gate.set()
    assert await k.run("dev/greet") == "function:new"
    await eventually(lambda: k.pool.loaded == {"function:new"})


async def test_a_changed_source_is_followed_at_once(
    k: Kernel, files: Directory, tmp_path: Path
) -> None:
    gate(k, "function:old tag")
    files.deploy("greet", "function:old tag")
    waiting = asyncio.create_task(k.run("dev/greet"))
    await eventually(lambda: k.compiler.started)
    other = Directory(k, tmp_path / "other")
    other.deploy("greet", "function:new tag")

    assert await waiting == "function:new tag"
    assert k.compiler.cancelled == ["function:old tag"]


async def test_content_that_changes_between_digest_and_compilation_is_read_again(
    k: Kernel, files: Directory
) -> None:
    class Swapping(FileRegistry):
        swapped = False

        async def read(self, name: str, tag: str) -> Blob:
            if not self.swapped:
                self.swapped = True
                files.write("greet", "function:2")
            return await super().read(name, tag)

    files.write("greet", "function:1")
    registry = Swapping(files.registry.directory)
    k.store.configure("dev", {"greet": ComponentSource(registry, "greet")})
    assert await k.run("dev/greet") == "function:2"
    assert k.compiler.started == ["function:2"]


# --- failures -------------------------------------------------------------------------------------


async def test_a_failure_keeps_the_old_version_and_is_recorded(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "function:1")
    assert await k.run("dev/greet") == "function:1"
    files.deploy("greet", "garbage")
    await eventually(lambda: k.info("dev/greet").error)

    assert await k.run("dev/greet") == "function:1"
    info = k.info("dev/greet")
    assert (info.status, info.digest) == (SkillStatus.READY, digest_of("function:1"))
    assert info.error and info.error["code"] == "not_a_component"

    files.deploy("greet", "function:2")
    await eventually(lambda: k.info("dev/greet").digest == digest_of("function:2"))
    assert k.info("dev/greet").error is None


async def test_going_back_to_the_serving_version_clears_the_error(
    k: Kernel, files: Directory
) -> None:
    files.deploy("greet", "function:1")
    assert await k.run("dev/greet") == "function:1"
    files.deploy("greet", "garbage")
    await eventually(lambda: k.info("dev/greet").error)
    files.deploy("greet", "function:1")
    await eventually(lambda: k.info("dev/greet").error is None)
    assert k.compiler.compiled["function:1"] == 1


async def test_a_failed_skill_tells_its_reason_at_once(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "garbage")
    error = await error_of(k.run("dev/greet"))
    assert isinstance(error, NotAComponent)
    assert error.extra["skill"] == "dev/greet"
    assert k.info("dev/greet").status is SkillStatus.FAILED
    assert isinstance(await error_of(k.run("dev/greet")), NotAComponent)


async def test_a_failed_component_is_not_tried_again_until_it_changes(
    k: Kernel, files: Directory
) -> None:
    files.deploy("greet", "garbage")
    await error_of(k.run("dev/greet"))
    for _ in range(5):
        files.announce("greet")
        await error_of(k.run("dev/greet"))
    files.write("again", "function:again")
    files.announce("greet", "again")
    assert await k.run("dev/again") == "function:again"
    assert k.compiler.started.count("garbage") == 1

    files.deploy("greet", "function:fixed")
    await eventually(lambda: k.info("dev/greet").status is SkillStatus.READY)


async def test_trouble_that_may_pass_is_tried_again_by_itself(k: Kernel, files: Directory) -> None:
    k.pool.load_faults = [EngineLost("the engine died") for _ in range(3)]
    files.deploy("greet", "function:1")
    await eventually(lambda: k.info("dev/greet").status is SkillStatus.READY)
    assert k.pool.loads["function:1"] == 4
    assert k.info("dev/greet").error is None


async def test_a_bug_of_the_kernel_is_told_without_its_details(k: Kernel, files: Directory) -> None:
    k.compiler.faults["function:1"] = RuntimeError("/secret/place")
    files.deploy("greet", "function:1")
    error = await error_of(k.run("dev/greet"))
    assert isinstance(error, SkillUnavailable)
    assert "secret" not in error.detail


async def test_a_half_written_file_is_not_blamed(k: Kernel, files: Directory) -> None:
    opened = gate(k, "funct")
    files.deploy("greet", "funct")
    request = asyncio.create_task(k.run("dev/greet"))
    await eventually(lambda: k.compiler.started)
    files.write("greet", "function:whole")  # nobody tells: the failure itself makes the store look
    opened.set()
    assert await request == "function:whole"


async def test_a_missing_file_fails_the_skill_until_it_appears(k: Kernel, files: Directory) -> None:
    files.announce("greet")
    error = await error_of(k.run("dev/greet"))
    assert isinstance(error, SkillUnavailable)
    assert "greet.wasm" in error.detail
    files.write("greet", "function:1")
    await eventually(lambda: k.info("dev/greet").status is SkillStatus.READY)
    assert await k.run("dev/greet") == "function:1"


async def test_a_file_that_disappears_leaves_the_loaded_version_serving(
    k: Kernel, files: Directory
) -> None:
    files.deploy("greet", "function:1")
    assert await k.run("dev/greet") == "function:1"
    files.delete("greet")
    files.announce("greet")
    await eventually(lambda: k.info("dev/greet").error)
    assert await k.run("dev/greet") == "function:1"


async def test_errors_of_two_skills_with_one_component_do_not_mix(
    k: Kernel, tmp_path: Path
) -> None:
    k.compiler.faults["function:same"] = CompileFailed("no")
    for namespace in "ab":
        Directory(k, tmp_path / namespace, namespace).deploy("greet", "function:same")
    errors = [await error_of(k.run(f"{namespace}/greet")) for namespace in "aba"]
    assert [error.extra["skill"] for error in errors] == ["a/greet", "b/greet", "a/greet"]
    assert len({error.extra["run_id"] for error in errors}) == 3


# --- leaving --------------------------------------------------------------------------------------


async def test_a_removed_skill_is_not_found_and_unloaded(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "function:1")
    assert await k.run("dev/greet") == "function:1"
    files.announce()
    error = await error_of(k.run("dev/greet"))
    assert isinstance(error, SkillNotFound)
    assert all(cause in error.detail for cause in ("misspelt", "wrong", "not configured"))
    assert k.store.list() == []
    await eventually(lambda: not k.pool.loaded)


async def test_a_skill_removed_while_it_loads_leaves_nothing_behind(
    k: Kernel, files: Directory
) -> None:
    gate(k, "function:1")
    files.deploy("greet", "function:1")
    waiting = asyncio.create_task(k.run("dev/greet"))
    await eventually(lambda: k.compiler.started)
    files.announce()
    assert isinstance(await error_of(waiting), SkillNotFound)
    assert isinstance(await error_of(k.run("dev/greet")), SkillNotFound)
    await eventually(lambda: k.compiler.cancelled == ["function:1"])
    assert k.store.cached() == []


async def test_an_invalid_namespace_says_why_and_recovers(k: Kernel, files: Directory) -> None:
    gate(k, "function:slow")
    files.write("slow", "function:slow")
    files.write("greet", "function:1")
    files.announce("greet", "slow")
    waiting = asyncio.create_task(k.run("dev/slow"))
    assert await k.run("dev/greet") == "function:1"
    k.store.invalidate("dev", NamespaceMisconfigured("line 3 is wrong"))

    for request in (k.run("dev/greet"), k.run("dev/never-heard-of"), waiting):
        error = await error_of(request)
        assert isinstance(error, NamespaceMisconfigured)
        assert error.detail == "line 3 is wrong"
    assert k.store.list() == []

    files.announce("greet")
    assert await k.run("dev/greet") == "function:1"


async def test_a_namespace_that_was_not_read_yet_asks_for_patience(k: Kernel) -> None:
    k.store.expect(["dev"])
    error = await error_of(k.run("dev/greet"))
    assert isinstance(error, SkillNotReady)
    assert error.retry_after
    assert not k.runtime.readiness()["namespaces"]["ready"]


async def test_a_removed_namespace_is_forgotten(k: Kernel, files: Directory) -> None:
    gate(k, "function:slow")
    files.write("slow", "function:slow")
    files.write("greet", "function:1")
    files.announce("greet", "slow")
    waiting = asyncio.create_task(k.run("dev/slow"))
    assert await k.run("dev/greet") == "function:1"
    k.store.remove("dev")
    k.store.remove("never-heard-of")
    assert isinstance(await error_of(waiting), SkillNotFound)
    assert isinstance(await error_of(k.run("dev/greet")), SkillNotFound)
    assert k.store.list() == k.store.details("dev") == []
    assert k.runtime.readiness()["namespaces"]["configured"] == 0
    await eventually(lambda: not k.pool.loaded)

    files.announce("greet")
    assert await k.run("dev/greet") == "function:1"


async def test_expecting_a_namespace_again_changes_nothing(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "function:1")
    k.store.expect(["dev", "new"])
    assert isinstance(await error_of(k.run("dev/other")), SkillNotFound)
    assert isinstance(await error_of(k.run("new/other")), SkillNotReady)


async def test_unknown_skills_with_strange_names_are_quoted_harmlessly(k: Kernel) -> None:
    error = await error_of(k.run("dev/a\nb\x1b[31m"))
    assert "\n" not in error.detail and "\x1b" not in error.detail


# --- readiness ------------------------------------------------------------------------------------


async def test_ready_after_every_skill_was_tried_once(k: Kernel, files: Directory) -> None:
    opened = gate(k, "function:slow")
    files.write("slow", "function:slow")
    files.write("broken", "garbage")
    files.announce("slow", "broken")
    await eventually(lambda: k.info("dev/broken").status is SkillStatus.FAILED)
    assert not k.runtime.readiness()["skills"]["ready"]
    opened.set()
    await eventually(lambda: k.runtime.readiness()["skills"]["ready"])
    assert k.runtime.readiness()["skills"] == {
        "ready": True,
        "serving": 1,
        "preparing": 0,
        "failed": 1,
    }
    assert k.runtime.readiness()["engines"] == {"ready": True}

    gate(k, "function:later")
    files.write("later", "function:later")
    files.announce("slow", "broken", "later")
    await eventually(lambda: "function:later" in k.compiler.started)
    assert k.runtime.readiness()["skills"]["ready"]


async def test_namespaces_that_stay_unread_do_not_hold_up_the_kernel(tmp_path: Path) -> None:
    async with kernel(first_pass_limit=0.05) as k:
        Directory(k, tmp_path).deploy("greet", "function:1")
        assert await k.run("dev/greet") == "function:1"
        k.store.expect(["hanging"])
        await eventually(lambda: k.runtime.readiness()["namespaces"]["ready"])
        assert k.runtime.readiness()["namespaces"]["unread"] == 1
        await eventually(lambda: k.runtime.readiness()["skills"]["ready"])


async def test_a_skill_that_is_never_ready_does_not_hold_up_the_kernel(tmp_path: Path) -> None:
    async with kernel(warm_up_limit=0.05) as k:
        k.store.expect(["dev"])
        gate(k, "function:slow")
        Directory(k, tmp_path).deploy("slow", "function:slow")
        await eventually(lambda: k.runtime.readiness()["skills"]["ready"])
        assert k.runtime.readiness()["skills"]["preparing"] == 1


async def test_readiness_stays(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "function:1")
    await eventually(lambda: k.runtime.readiness()["skills"]["ready"])
    k.store.expect(["later"])
    readiness = k.runtime.readiness()["namespaces"]
    assert (readiness["ready"], readiness["unread"]) == (True, 1)
    k.store.invalidate("dev", NamespaceMisconfigured("line 3 is wrong"))
    readiness = k.runtime.readiness()["namespaces"]
    assert (readiness["ready"], readiness["invalid"]) == (True, 1)


# --- evicting -------------------------------------------------------------------------------------


async def test_evict_unloads_and_reads_again(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "function:1")
    assert await k.run("dev/greet") == "function:1"
    files.write("greet", "function:2")  # nobody tells

    assert await k.runtime.evict(parse("dev/greet"))
    await eventually(lambda: k.info("dev/greet").digest == digest_of("function:2"))
    assert await k.run("dev/greet") == "function:2"


async def test_an_evicted_skill_loads_again_on_demand(k: Kernel, files: Directory) -> None:
    files.deploy("greet", "function:1")
    assert await k.run("dev/greet") == "function:1"
    assert await k.runtime.evict(parse("dev/greet"))
    await eventually(lambda: k.store.cached() == [])
    assert not await k.runtime.evict(parse("dev/greet"))
    assert await k.run("dev/greet") == "function:1"
    assert k.store.cached() == [parse("dev/greet")]
    assert k.compiler.compiled["function:1"] == 1


async def test_evict_gives_a_failed_skill_another_chance(k: Kernel, files: Directory) -> None:
    k.compiler.faults["function:1"] = CompileFailed("took too long")
    files.deploy("greet", "function:1")
    assert isinstance(await error_of(k.run("dev/greet")), CompileFailed)
    k.compiler.faults.clear()
    assert not await k.runtime.evict(parse("dev/greet"))
    await eventually(lambda: k.info("dev/greet").status is SkillStatus.READY)


async def test_a_chat_skill_is_listed_as_such(k: Kernel) -> None:
    k.store.configure("dev", {"chat": ChatSkill("1", "model", "Be brief.")})
    info = k.info("dev/chat")
    assert (info.type, info.kind) == (SkillType.CHAT, SkillKind.MESSAGE_STREAM)
    (detail,) = k.store.details("dev")
    assert (detail.status, detail.history, detail.generation) == (SkillStatus.READY, [], None)
    assert k.store.states("dev")[SkillStatus.READY] == 1


async def test_evict_of_what_is_not_there(k: Kernel) -> None:
    assert not await k.runtime.evict(parse("dev/nothing"))
