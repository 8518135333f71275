"""What an engine process has, and what it has not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pharia_kernel.engine.pool import Pool
from pharia_kernel.engine.process import EngineProcess
from pharia_kernel.errors import EngineLost
from tests.engine import guests
from tests.support.components import (
    Artifacts,
    NewPool,
    RecordingHost,
    eventually,
    may_leave_network,
    network,
    pool_settings,
    soon,
)


def engine_of(pool: Pool) -> psutil.Process:
    return psutil.Process(pool.statistics()["engines"][0]["pid"])


def open_files(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    return {int(path.name): str(path.readlink()) for path in folder.iterdir()}


def proc(process: psutil.Process, name: str) -> str:
    return Path(f"/proc/{process.pid}/{name}").read_text()


async def test_it_has_no_secrets(new_pool: NewPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_TOKEN", "secret")
    process = engine_of(await new_pool())
    allowed = {"PATH", "RUST_BACKTRACE", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    assert set(process.environ()) <= allowed
    assert "secret" not in " ".join(process.cmdline())
    assert process.cwd() == "/"


async def test_it_has_no_files_of_the_kernel(
    new_pool: NewPool, artifacts: Artifacts, tmp_path: Path
) -> None:
    """Not even those that the kernel lets its children inherit."""
    echo = artifacts("tiny_echo")
    with (tmp_path / "secrets").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        pool = await new_pool(echo)
        await pool.run(echo, b"", RecordingHost(), deadline=soon())
        files = open_files(engine_of(pool).pid)
    assert not [path for path in files.values() if path.startswith(str(tmp_path))]
    assert [files[0], files[1]] == ["/dev/null", "/dev/null"]
    assert files[2].startswith("pipe:"), "its log"


async def test_it_opens_no_socket_but_its_own(new_pool: NewPool, artifacts: Artifacts) -> None:
    """The runtime has a pair that is connected to itself, to be woken by signals."""
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo)
    await pool.run(echo, b"", RecordingHost(), deadline=soon())
    process = engine_of(pool)
    assert process.net_connections("inet") == []
    sockets = {path for path in open_files(process.pid).values() if path.startswith("socket:")}
    assert 1 <= len(sockets) <= 3


async def test_it_leaves_the_network(new_pool: NewPool) -> None:
    if not may_leave_network():
        pytest.skip("the system does not allow network namespaces to unprivileged processes")
    process = engine_of(await new_pool())
    assert network(process.pid) != network(os.getpid())
    interfaces = proc(process, "net/dev").splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    assert proc(process, "net/route").count("\n") <= 1, "no routes"


async def test_it_can_not_gain_privileges_nor_leave_a_core(new_pool: NewPool) -> None:
    process = engine_of(await new_pool())
    assert "\nNoNewPrivs:\t1\n" in proc(process, "status")
    assert process.rlimit(resource.RLIMIT_CORE) == (0, 0)


async def test_it_dies_before_the_kernel_if_memory_runs_out(new_pool: NewPool) -> None:
    process = engine_of(await new_pool())
    assert int(proc(process, "oom_score_adj")) >= 500


async def test_it_uses_no_time_when_there_is_nothing_to_do(
    new_pool: NewPool, artifacts: Artifacts
) -> None:
    ask = artifacts.of(guests.ask())
    pool = await new_pool(ask)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def park(_function: str, _arguments: object) -> list[str]:
        asked.set()
        await answer.wait()
        return ["x"]

    run = asyncio.create_task(pool.run(ask, b"", RecordingHost(park), deadline=soon()))
    await asked.wait()
    process = engine_of(pool)
    await eventually(lambda: process.status() == psutil.STATUS_SLEEPING)
    before, switches = process.cpu_times(), process.num_ctx_switches().voluntary
    async with asyncio.timeout(0.5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run_forever()
    spent = process.cpu_times().user + process.cpu_times().system - before.user - before.system
    assert spent <= 0.05
    assert process.num_ctx_switches().voluntary - switches <= 3
    answer.set()
    await run


async def run_forever() -> None:
    await asyncio.get_running_loop().create_future()


def test_it_does_not_outlive_the_kernel() -> None:
    """Whose process is killed, so that it can't close anything."""
    kernel = """
import asyncio, os, signal, sys
from pharia_kernel.engine.pool import Pool
from tests.support.components import pool_settings
async def main():
    pool = Pool(pool_settings())
    await pool.start()
    print(pool.statistics()["engines"][0]["pid"], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", kernel], cwd=root, stdout=subprocess.PIPE, timeout=60, check=False
    )
    pid = int(done.stdout)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(20)


async def test_an_engine_that_can_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pharia_kernel.engine.process.VERSION", 99)
    engine = EngineProcess(0, pool_settings().engine, lambda: None)
    with pytest.raises(EngineLost, match="did not start"):
        await engine.start()
    await engine.close()


async def test_without_address_space_for_pooling_it_does_without(
    artifacts: Artifacts, new_pool: NewPool
) -> None:
    echo = artifacts("tiny_echo")
    pool = await new_pool(echo, pooling=False)
    outcome = await pool.run(echo, b"text", RecordingHost(), deadline=soon())
    assert outcome.value == b"text"  # type: ignore[union-attr]
