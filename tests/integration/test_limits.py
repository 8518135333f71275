"""Refusals: too much at once, too large, not what the schema says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.integration.backend import when
from tests.integration.conftest import inference
from tests.support.faulty_llm import FaultyLlm, proper
from tests.support.kernel import KernelProcess, problem, temporary_home, until

CHAT = {"model": "m", "text": "Hi"}
STREAM = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


async def active(kernel: KernelProcess, runs: int, queued: int = 0) -> None:
    async def reached() -> bool:
        engines = (await kernel.components())["engines"]
        in_engines = sum(engine["runs"] for engine in engines["engines"])
        return (in_engines, engines["queued"]) == (runs, queued)

    await until(reached, f"{runs} runs in engines, {queued} queued")


def refused(response: httpx.Response, setting: str) -> None:
    assert problem(response) == (429, "overloaded")
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["retryable"] is True
    assert setting in response.json()["detail"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tight_kernel(
    components: dict[str, Path], scripted_backend: FaultyLlm
) -> AsyncGenerator[KernelProcess, None]:
    limits = {"max_runs_per_skill": 2, "max_runs_per_engine": 4, "run_queue_length": 2}
    with temporary_home(engines=1, **limits, **inference(scripted_backend)) as home:
        names = ("chatty", "stream_chat", "greet", "tiny_echo")
        home.deploy_all({name: components[name] for name in names})
        async with home.running() as kernel:
            yield kernel


class Waiting:
    """Two runs and two streams that wait for the backend until they are released."""

    def __init__(self, kernel: KernelProcess, backend: FaultyLlm) -> None:
        self._released = asyncio.Event()
        backend.default = when(self._released, proper())
        self.runs = [asyncio.create_task(kernel.run("chatty", CHAT)) for _ in range(2)]
        self.streams = [asyncio.create_task(kernel.stream("stream_chat", STREAM)) for _ in range(2)]

    async def finish(self) -> None:
        self._released.set()
        for response in await asyncio.gather(*self.runs):
            assert response.status_code == 200
        for stream in await asyncio.gather(*self.streams):
            assert stream.end["finish_reason"] == "stop"


async def test_too_many_runs_of_one_skill(tight_kernel: KernelProcess, backend: FaultyLlm) -> None:
    waiting = Waiting(tight_kernel, backend)
    await active(tight_kernel, 4)
    refused(await tight_kernel.run("chatty", CHAT), "max-runs-per-skill")
    stream = await tight_kernel.stream("stream_chat", STREAM)
    refused(stream.response, "max-runs-per-skill")
    await waiting.finish()
    assert (await tight_kernel.run("chatty", CHAT)).status_code == 200


async def test_full_engines_and_a_full_queue(
    tight_kernel: KernelProcess, backend: FaultyLlm
) -> None:
    waiting = Waiting(tight_kernel, backend)
    await active(tight_kernel, 4)
    queued = [asyncio.create_task(tight_kernel.run("greet", {"name": "x"})) for _ in range(2)]
    await active(tight_kernel, 4, queued=2)
    refused(await tight_kernel.run("tiny_echo"), "run-queue-length")
    await waiting.finish()
    assert [run.status_code for run in await asyncio.gather(*queued)] == [200, 200]
    await active(tight_kernel, 0)


async def test_a_client_that_leaves_the_queue_makes_room_in_it(
    tight_kernel: KernelProcess, backend: FaultyLlm
) -> None:
    waiting = Waiting(tight_kernel, backend)
    await active(tight_kernel, 4)
    leaving = [asyncio.create_task(tight_kernel.run("greet", {"name": "x"})) for _ in range(2)]
    await active(tight_kernel, 4, queued=2)
    for request in leaving:
        request.cancel()
    await active(tight_kernel, 4, queued=0)
    staying = asyncio.create_task(tight_kernel.run("greet", {"name": "x"}))
    await active(tight_kernel, 4, queued=1)
    await waiting.finish()
    assert (await staying).json() == "Hello x"


# --- bodies ---------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def checking_kernel(components: dict[str, Path]) -> AsyncGenerator[KernelProcess, None]:
    with temporary_home(engines=1, max_body_size="64KiB", validate_input="true") as home:
        names = ("greet", "greet_02", "greet_js", "wrong_schema", "tiny_echo")
        home.deploy_all({name: components[name] for name in names})
        async with home.running() as kernel:
            yield kernel


async def test_bodies_are_limited(checking_kernel: KernelProcess) -> None:
    url, headers = "/v1/skills/dev/tiny_echo/run", {"Content-Type": "application/json"}

    def json_of(size: int) -> bytes:
        return b'"' + b"x" * (size - 2) + b'"'

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    fits, too_large = json_of(64 << 10), json_of((64 << 10) + 1)
    response = await checking_kernel.client.post(url, content=fits, headers=headers)
    assert (response.status_code, response.content) == (200, fits)
    for content in (too_large, pieces()):
        response = await checking_kernel.client.post(url, content=content, headers=headers)
        assert problem(response) == (413, "payload_too_large")
        assert "65536" in response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "media_type", "expected"),
    [
        (b'{"name": ', "application/json", (400, "invalid_json")),
        (b"", "application/json", (400, "invalid_json")),
        (b'"\xff"', "application/json", (400, "invalid_json")),
        (b"{}", "text/plain", (415, "unsupported_media_type")),
        (b'{"name": "x"}', "application/vnd.acme+json", (200, None)),
    ],
)
async def test_bodies_are_json(
    kernel: KernelProcess, content: bytes, media_type: str, expected: tuple[int, str | None]
) -> None:
    headers = {"Content-Type": media_type}
    response = await kernel.client.post(
        "/v1/skills/dev/greet/run", content=content, headers=headers
    )
    if expected[1] is None:
        assert response.json() == "Hello x"
    else:
        assert problem(response) == expected


async def test_namespaces_have_a_form(kernel: KernelProcess) -> None:
    response = await kernel.run("Not_A_Namespace/greet", {})
    assert problem(response) == (400, "invalid_namespace")


# --- schemas --------------------------------------------------------------------------------------


async def test_inputs_are_checked_against_the_schema(checking_kernel: KernelProcess) -> None:
    kernel = checking_kernel

    async def violations(skill: str, input: dict[str, Any] | None) -> list[str]:
        response = await kernel.run(skill, input)
        assert problem(response) == (422, "input_schema_violation")
        errors = response.json()["errors"]
        assert all(error["message"] for error in errors)
        return [error["path"] for error in errors]

    assert await violations("greet", {"name": ""}) == ["/name"]
    assert await violations("greet", {"name": 5}) == ["/name"]
    assert await violations("greet", {}) == [""]
    assert await violations("greet", None) == [""]
    assert await violations("greet_js", {"name": ["x"]}) == ["/name"]
    # Told what is wrong, one can get it right.
    assert (await kernel.run("greet", {"name": "x"})).json() == "Hello x"
    assert (await kernel.run("greet_js", {"name": "x"})).json() == "Hello x"
    # Without a usable schema, the skill looks for itself.
    assert problem(await kernel.run("greet_02", {})) == (400, "invalid_input")
    assert (await kernel.run("wrong_schema", 1)).json() == "fine"
    assert (await kernel.run("tiny_echo", [1])).json() == [1]


async def test_inputs_are_not_checked_unless_that_is_wanted(kernel: KernelProcess) -> None:
    assert problem(await kernel.run("greet", {"name": ""})) == (400, "invalid_input")
