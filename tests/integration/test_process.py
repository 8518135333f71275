"""The kernel as a process: how it starts, why it does not, and how it stops."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.backend import when
from tests.integration.conftest import BACKEND_TOKEN, NewHome, inference
from tests.support.faulty_llm import FaultyLlm, chunk, hang, proper, sse, stream_then_hang
from tests.support.kernel import PATIENCE, KernelHome, KernelProcess, problem, until

CHAT = {"model": "m", "text": "Hi"}
STREAM = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
FIRST = sse(chunk({"role": "assistant", "content": "Hel"}))


async def refuses_connections(kernel: KernelProcess) -> None:
    async def refused() -> bool:
        try:
            await kernel.client.get("/health", headers={"Connection": "close"})
        except httpx.TransportError:
            return True
        return False

    await until(refused, "the kernel does not listen any more")


# --- stopping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_kernel_stops_at_once(
    new_home: NewHome, components: dict[str, Path], number: signal.Signals
) -> None:
    home = new_home(drain_timeout="30s")
    home.deploy("tiny_echo", components["tiny_echo"])
    async with home.running() as kernel:
        family = psutil.Process(kernel.process.pid).children(recursive=True)
        assert family
        began = time.monotonic()
        kernel.process.send_signal(number)
        assert await kernel.exit() == 0
        assert time.monotonic() - began < 10
        assert not [child for child in family if child.is_running()]


async def test_runs_finish_before_the_kernel_stops(
    new_home: NewHome, components: dict[str, Path], backend: FaultyLlm
) -> None:
    released = asyncio.Event()
    backend.default = when(released, proper(tokens=2))
    home = new_home(drain_timeout="60s", **inference(backend))
    home.deploy_all({name: components[name] for name in ("chatty", "stream_chat")})
    async with home.running() as kernel:
        run = asyncio.create_task(kernel.run("chatty", CHAT))
        stream = asyncio.create_task(kernel.stream("stream_chat", STREAM))

        async def both_wait() -> bool:
            return backend.active == 2

        await until(both_wait, "both runs wait for the backend")
        kernel.terminate()
        await refuses_connections(kernel)
        assert kernel.process.poll() is None
        released.set()
        assert (await run).json() == "token token"
        assert (await stream).end["finish_reason"] == "stop"
        assert await kernel.exit() == 0


async def test_runs_that_take_too_long_are_cut(
    new_home: NewHome, components: dict[str, Path], backend: FaultyLlm
) -> None:
    """They are told so, their requests to the backend end, and the exit status is still 0."""
    backend.will(stream_then_hang(FIRST))
    backend.default = hang()
    home = new_home(drain_timeout="500ms", **inference(backend))
    names = ("chatty", "stream_chat", "endless_loop")
    home.deploy_all({name: components[name] for name in names})
    async with home.running() as kernel, kernel.open_stream("stream_chat", STREAM) as live:
        assert await live.next() == ("message", {"type": "begin"})
        assert await live.next() == ("message", {"type": "append", "text": "Hel"})
        run = asyncio.create_task(kernel.run("chatty", CHAT))
        loop = asyncio.create_task(kernel.run("endless_loop"))

        async def all_run() -> bool:
            return await kernel.active_runs() == 3 and backend.active == 2

        await until(all_run, "all three run")
        began = time.monotonic()
        kernel.terminate()
        assert problem(await run) == (503, "shutting_down")
        assert problem(await loop) == (503, "shutting_down")
        name, data = await live.next()
        assert (name, data["code"], data["retryable"]) == ("error", "shutting_down", True)
        assert await kernel.exit() == 0
        assert time.monotonic() - began < 10

        async def backend_is_idle() -> bool:
            return backend.active == 0

        await until(backend_is_idle, "the requests to the backend ended")


async def test_a_second_signal_does_not_wait(
    new_home: NewHome, components: dict[str, Path], backend: FaultyLlm
) -> None:
    backend.default = hang()
    home = new_home(drain_timeout="10m", **inference(backend))
    home.deploy("chatty", components["chatty"])
    async with home.running() as kernel:
        run = asyncio.create_task(kernel.run("chatty", CHAT))
        await asyncio.wait_for(backend.arrived.wait(), PATIENCE)
        kernel.terminate()
        await refuses_connections(kernel)
        kernel.terminate()
        assert problem(await run) == (503, "shutting_down")
        assert await kernel.exit() == 0


# --- not starting ---------------------------------------------------------------------------------


async def fails(home: KernelHome) -> tuple[int, str]:
    """Exit status of a kernel that does not start, and what it wrote."""
    kernel = home.start()
    try:
        return await kernel.exit(), kernel.log()
    finally:
        kernel.kill()


async def test_an_address_in_use(kernel: KernelProcess, new_home: NewHome) -> None:
    address = kernel.url.removeprefix("http://")
    status, output = await fails(new_home(kernel_address=address))
    assert status == 1
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert address in line
    assert "address already in use" in line
    assert "KERNEL_ADDRESS" in line
    assert "Traceback" not in output
    assert (await kernel.client.get("/health")).text == "ok"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"run_timeout": "soon"}, ["RUN_TIMEOUT", "soon"]),
        ({"engines": "0"}, ["ENGINES", "0"]),
        ({"openai_inference__url": "http://localhost/v1"}, ["OPENAI_INFERENCE", "token"]),
        ({"namespaces__dev__path": "x"}, ["namespaces", "dev", "path"]),
    ],
    ids=["duration", "count", "missing", "namespace"],
)
async def test_a_setting_that_is_wrong(
    new_home: NewHome, settings: dict[str, str], named: list[str]
) -> None:
    status, output = await fails(new_home(**settings))
    assert status == 2
    assert output.startswith("error: ")
    assert "Traceback" not in output
    for name in named:
        assert name.lower() in output.lower()


async def test_a_key_that_does_not_exist(new_home: NewHome) -> None:
    home = new_home()
    with (home.folder / "config.toml").open("a") as file:
        file.write('\n[unknown-table]\nkey = "value"\n')
    status, output = await fails(home)
    assert status == 2
    assert "unknown-table" in output
    assert "config.toml" in output


async def test_a_cache_that_can_not_be_used(new_home: NewHome, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    status, output = await fails(new_home(artifacts=tmp_path / "file" / "cache"))
    assert status == 1
    assert "error: " in output
    assert str(tmp_path / "file") in output
    assert "Traceback" not in output


# --- being ready ----------------------------------------------------------------------------------


async def test_ready_comes_after_the_skills(
    new_home: NewHome, components: dict[str, Path], tmp_path: Path
) -> None:
    home = new_home(artifacts=tmp_path / "artifacts")
    home.deploy("tiny_echo", components["tiny_echo"])
    home.deploy("broken", b"not WebAssembly")
    async with home.running() as kernel:  # ready, with a broken skill
        components_ = await kernel.components()
        assert components_["skills"] == {"ready": True, "serving": 1, "preparing": 0, "failed": 1}
        assert components_["namespaces"]["configured"] == 1
        assert problem(await kernel.run("broken")) == (500, "not_a_component")
        assert (await kernel.run("tiny_echo", 1)).json() == 1


async def test_engines_know_no_secrets(kernel: KernelProcess) -> None:
    """What engines could read of their own environment and files, should a guest break out."""
    for engine in await kernel.engines():
        environment = psutil.Process(engine["pid"]).environ()
        assert BACKEND_TOKEN not in str(environment)
        assert not environment.keys() & {"HOME", "KERNEL_ADDRESS", "OPENAI_INFERENCE__URL"}
        assert psutil.Process(engine["pid"]).cwd() == "/"
