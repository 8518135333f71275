from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wasmtime import wat2wasm

from pharia_kernel.engine.api import Artifact, ComponentKind
from pharia_kernel.engine.compiler import CompilerProcess
from pharia_kernel.errors import (
    CompileFailed,
    CompilerLost,
    NotAComponent,
    SkillLoadError,
    UnsatisfiedImport,
    UnsupportedWorld,
    WitTooNew,
    WitTooOld,
)
from tests.support.components import (
    MIB,
    NewPool,
    RecordingHost,
    compiler_settings,
    digest_of,
    eventually,
    may_leave_network,
    network,
    skill,
    soon,
)

HANDLER = "pharia:skill/skill-handler"


def processes() -> list[psutil.Process]:
    """Compiler processes that this process started and that run."""
    found = []
    for child in psutil.Process().children():
        try:
            if "pharia_kernel.engine.compile_worker" in child.cmdline():
                found.append(child)
        except psutil.NoSuchProcess:
            pass
    return found


async def started() -> psutil.Process:
    """The compiler process, once there is one."""
    await eventually(processes)
    return processes()[0]


def compiler(directory: Path, **changes: Any) -> CompilerProcess:
    return CompilerProcess(compiler_settings(directory, **changes))


def handler(type_: str, core_type: str) -> bytes:
    """A component whose ``run`` has these types; it traps when it is called."""
    text = f"""(component
      (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "run") {core_type} unreachable))
      (core instance $i (instantiate $m))
      (alias core export $i "memory" (core memory $memory))
      (alias core export $i "realloc" (core func $realloc))
      (func $run {type_}
        (canon lift (core func $i "run") (memory $memory) (realloc $realloc)))
      (instance $handler (export "run" (func $run)))
      (export "{HANDLER}@0.2.0" (instance $handler)))"""
    return wat(text)


def wat(text: str) -> bytes:
    return bytes(wat2wasm(text))


def visible(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def is_tidy(directory: Path) -> None:
    """Wait until the last attempt has cleaned up."""
    await eventually(lambda: visible(directory) == {"key"})


async def compile_bytes(compiler: CompilerProcess, wasm: bytes) -> Artifact:
    return await compiler.compile(digest_of(wasm), wasm)


# --- what goes well


async def test_a_compiled_component_can_be_run(tmp_path: Path, new_pool: NewPool) -> None:
    artifact = await compile_bytes(compiler(tmp_path), skill("tiny_echo"))
    assert artifact.digest == digest_of(skill("tiny_echo"))
    assert artifact.path.parent == tmp_path
    assert artifact.size == artifact.path.stat().st_size
    assert (artifact.info.kind, artifact.info.wit_version) == (ComponentKind.FUNCTION, "0.3.11")
    pool = await new_pool(artifact)
    result = await pool.run(artifact, b"input", RecordingHost(), deadline=soon())
    assert result.value == b"input"  # type: ignore[union-attr]


async def test_it_compiles_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wasm = skill("tiny_stream")
    first = compiler(tmp_path)
    assert await first.cached(digest_of(wasm)) is None
    artifact = await compile_bytes(first, wasm)
    assert await compile_bytes(first, wasm) == artifact
    later = compiler(tmp_path)
    assert await later.cached(digest_of(wasm)) == artifact
    assert await compile_bytes(later, wasm) == artifact
    assert [record for record in caplog.messages if record.startswith("compiled")] == [
        f"compiled {artifact.digest} ({len(wasm)} bytes) in "
        + caplog.messages[0].rpartition(" in ")[2]
    ]


async def test_nothing_is_left_but_the_artifact(tmp_path: Path) -> None:
    artifact = await compile_bytes(compiler(tmp_path), skill("tiny_echo"))
    assert visible(tmp_path) == {
        "key", artifact.path.name, artifact.path.with_suffix(".json").name,
    }  # fmt: skip


async def test_concurrent_requests_share_one_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    both = compiler(tmp_path, jobs=4)
    wasm = skill("tiny_echo")
    artifacts = await asyncio.gather(*(compile_bytes(both, wasm) for _ in range(10)))
    assert len(set(map(id, artifacts))) == 1
    assert len([message for message in caplog.messages if message.startswith("compiled")]) == 1


async def test_an_artifact_that_was_damaged_is_compiled_again(tmp_path: Path) -> None:
    both = compiler(tmp_path)
    artifact = await compile_bytes(both, skill("tiny_echo"))
    code = artifact.path.read_bytes()
    artifact.path.write_bytes(code[:-1])
    assert await both.cached(artifact.digest) is None
    again = await compile_bytes(both, skill("tiny_echo"))
    assert await both.cached(artifact.digest) == again


async def test_a_discarded_artifact_is_gone(tmp_path: Path) -> None:
    both = compiler(tmp_path)
    artifact = await compile_bytes(both, skill("tiny_echo"))
    await both.discard(artifact.digest)
    assert await both.cached(artifact.digest) is None


async def test_the_cache_is_trimmed_but_not_of_what_this_kernel_uses(tmp_path: Path) -> None:
    before = compiler(tmp_path)
    old = await compile_bytes(before, skill("tiny_echo"))
    used = await compile_bytes(before, skill("tiny_stream"))
    settings = compiler_settings(tmp_path, capacity=0)
    now = CompilerProcess(settings, lambda path: path == used.path)
    new = await compile_bytes(now, skill("two_messages"))
    assert [artifact.path.exists() for artifact in (old, used, new)] == [False, True, True]


@pytest.mark.timeout(200)
async def test_a_component_of_a_real_toolchain(tmp_path: Path, new_pool: NewPool) -> None:
    artifact = await compile_bytes(compiler(tmp_path), skill("greet_js"))
    pool = await new_pool(artifact, memory_limit=256 * MIB)
    result = await pool.run(artifact, b'{"name": "x"}', RecordingHost(), deadline=soon())
    assert b"x" in result.value  # type: ignore[union-attr]


# --- what can't be run


@pytest.mark.parametrize(
    ("name", "error", "detail"),
    [
        ("core_module", NotAComponent, "core WebAssembly module"),
        ("empty_component", UnsupportedWorld, "exports neither"),
        ("other_world", UnsupportedWorld, r"it exports `wasi:cli/run@0\.2\.0`"),
        ("too_new", WitTooNew, "0.9.0"),
        ("too_new_patch", WitTooNew, "0.3.99"),
        ("too_old", WitTooOld, "0.1.0"),
        ("unsatisfied_import", UnsatisfiedImport, "`acme:thing/api@1.0.0`"),
        ("unsatisfied_function", UnsatisfiedImport, "`translate`"),
        ("bad_export_signature", CompileFailed, r"`run` is `func\(string\)"),
    ],
)
async def test_the_error_says_what_is_wrong(
    tmp_path: Path, name: str, error: type[SkillLoadError], detail: str
) -> None:
    with pytest.raises(error, match=detail) as raised:
        await compile_bytes(compiler(tmp_path), skill(name))
    assert type(raised.value) is error
    assert visible(tmp_path) == {"key"}


@pytest.mark.parametrize(
    ("wasm", "detail"),
    [
        (
            handler('(param "a" u32) (result u32)', "(param i32) (result i32)"),
            r"func\(u32\) -> u32",
        ),
        (handler('(param "a" (list u8))', "(param i32 i32)"), r"`func\(list<u8>\)`"),
        (
            handler(
                '(param "a" (list u8)) (result (result (list u8) (error string)))',
                "(param i32 i32) (result i32)",
            ),
            "result<list<u8>, string>",
        ),
        (wat(f'(component (instance $i) (export "{HANDLER}@0.2.0" (instance $i)))'), "is missing"),
    ],
    ids=["numbers", "no result", "other error", "no run"],
)
async def test_exports_of_other_types_are_refused(tmp_path: Path, wasm: bytes, detail: str) -> None:
    with pytest.raises(CompileFailed, match=detail):
        await compile_bytes(compiler(tmp_path), wasm)


async def test_a_truncated_component_is_refused_with_the_reason(tmp_path: Path) -> None:
    wasm = skill("greet_js")
    with pytest.raises(CompileFailed, match="damaged: section"):
        await compile_bytes(compiler(tmp_path), wasm[: len(wasm) // 2])


async def test_a_component_that_is_not_valid_is_refused_with_the_reason(tmp_path: Path) -> None:
    wasm = bytearray(skill("tiny_echo"))
    at = wasm.index(b"\x41\x10\x20")  # i32.const RESULT; local.get: an operand stack that is right
    wasm[at] = 0x00  # unreachable, and what follows it has no meaning
    with pytest.raises(CompileFailed, match="not valid"):
        await compile_bytes(compiler(tmp_path), bytes(wasm))


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.integers(8, 1000), st.integers(0, 255)), min_size=1, max_size=3))
def test_damage_anywhere_gives_an_artifact_or_a_load_error(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    wasm = bytearray(skill("tiny_echo"))
    for at, byte in changes:
        wasm[at] = byte

    async def attempt() -> None:
        try:
            await compile_bytes(compiler(tmp_path), bytes(wasm))
        except SkillLoadError as error:
            assert "ended with status" not in error.detail, "the compiler was not prepared for it"

    asyncio.run(attempt())


@pytest.mark.parametrize("name", ["start_loop", "start_trap", "realloc_trap", "metadata_loop"])
async def test_what_a_guest_does_is_not_judged(tmp_path: Path, name: str) -> None:
    artifact = await compile_bytes(compiler(tmp_path), skill(name))
    assert artifact.path.exists()


# --- limits


async def test_too_little_memory_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CompileFailed, match=r"more than 100 MiB \(`compile-memory-limit`\)"):
        await compile_bytes(compiler(tmp_path, memory_limit=100 * MIB), skill("greet_js"))
    assert visible(tmp_path) == {"key"}


async def test_too_little_time_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CompileFailed, match=r"longer than 0\.2 s \(`compile-timeout`\)"):
        await compile_bytes(compiler(tmp_path, timeout=0.2), skill("greet_js"))
    assert not processes()
    assert visible(tmp_path) == {"key"}


async def test_jobs_bound_the_processes(tmp_path: Path) -> None:
    one = compiler(tmp_path)
    first = asyncio.create_task(compile_bytes(one, skill("greet_js")))
    (process,) = [await started()]
    second = asyncio.create_task(compile_bytes(one, skill("tiny_echo")))
    await asyncio.wait({second}, timeout=0.3)
    assert processes() == [process]
    first.cancel()
    assert (await second).path.exists(), "the place is free again"


# --- cancellation and death


async def test_cancelling_the_last_waiter_kills_the_process(tmp_path: Path) -> None:
    both = compiler(tmp_path)
    tasks = [asyncio.create_task(compile_bytes(both, skill("greet_js"))) for _ in range(2)]
    process = await started()
    tasks[0].cancel()
    await asyncio.wait({tasks[0]})
    assert process.is_running(), "another still waits"
    tasks[1].cancel()
    await asyncio.wait({tasks[1]})
    assert all(task.cancelled() for task in tasks)
    await eventually(lambda: not process.is_running())
    await is_tidy(tmp_path)


async def test_who_asks_right_after_a_cancellation_gets_an_artifact(tmp_path: Path) -> None:
    both = compiler(tmp_path)
    wasm = skill("tiny_echo")
    impatient = asyncio.create_task(compile_bytes(both, wasm))
    process = await started()
    impatient.cancel()
    await asyncio.wait({impatient})
    artifact = await compile_bytes(both, wasm)
    assert artifact.path.exists()
    assert not process.is_running()


async def test_a_compiler_that_is_killed_fails_only_this_attempt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = compiler(tmp_path)
    wasm = skill("tiny_echo")
    attempt = asyncio.create_task(compile_bytes(both, skill("greet_js")))
    (await started()).kill()
    with pytest.raises(CompilerLost, match="status -9"):
        await attempt
    assert visible(tmp_path) == {"key"}
    assert (await compile_bytes(both, wasm)).path.exists()


async def test_a_compiler_in_trouble_says_nothing_about_the_component(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with pytest.raises(CompilerLost, match="status 1; see the kernel's log") as caught:
        await compile_bytes(compiler(tmp_path), skill("tiny_echo"))
    assert caught.value.retryable
    assert "compiler ended with status 1" in caplog.text
    monkeypatch.undo()
    assert (await compile_bytes(compiler(tmp_path), skill("tiny_echo"))).path.exists()


async def test_compiling_goes_on_after_every_kind_of_failure(tmp_path: Path) -> None:
    one = compiler(tmp_path)
    for name in ("core_module", "unsatisfied_function", "bad_export_signature"):
        with pytest.raises(SkillLoadError):
            await compile_bytes(one, skill(name))
    assert (await compile_bytes(one, skill("tiny_echo"))).path.exists()


# --- the process


async def test_the_process_has_no_environment_and_no_network(tmp_path: Path) -> None:
    task = asyncio.create_task(compile_bytes(compiler(tmp_path), skill("greet_js")))
    process = await started()
    assert set(process.environ()) == {"PATH", "RUST_BACKTRACE"}
    assert process.net_connections("inet") == []
    if may_leave_network():
        await eventually(lambda: network(process.pid) != network(os.getpid()))
    task.cancel()
    await is_tidy(tmp_path)
