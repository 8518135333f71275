"""Batches, tools, errors, deadlines and streams that somebody leaves."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from pharia_kernel.drivers.inference.openai import OpenAiDriver
from pharia_kernel.drivers.tools.mcp.server import MAX_PARALLEL_CALLS
from tests.integration.conftest import inference
from tests.integration.csi.calls import GERMAN, chat, completion
from tests.integration.csi.support import TOURS, Call, Json, World, events, post, tour
from tests.support.faulty_llm import FaultyLlm, answer, chunk, hang, message, sse, stream_then_hang
from tests.support.kernel import PATIENCE, KernelProcess, problem, temporary_home, until

MANY = 10_000
RUN_TIMEOUT = 2.0
FIRST = sse(chunk({"role": "assistant", "content": "Hel"}))
FIRST_TEXT = sse({"choices": [{"index": 0, "text": "Hel", "finish_reason": None}]})
FUNCTIONS = ["0.2", "0.3", "0.4"]


def tools(*requests: tuple[str, dict[str, Json]]) -> Call:
    return (
        "invoke_tool",
        {
            "namespace": "dev",
            "requests": [
                {"name": n, "arguments": [{"name": k, "value": v} for k, v in given.items()]}
                for n, given in requests
            ],
        },
    )


def text(value: str) -> list[Json]:
    return [{"type": "text", "text": value}]


ADD = ("add", {"a": 1, "b": 2})


# --- kernels --------------------------------------------------------------------------------------


@asynccontextmanager
async def scripted(
    components: dict[str, Path], backend: FaultyLlm, **settings: object
) -> AsyncGenerator[KernelProcess, None]:
    """A kernel with the scripted backend."""
    with temporary_home(**inference(backend), **settings) as home:
        home.deploy_all({name: components[name] for name in (*TOURS.values(), "metadata_chat")})
        async with home.running() as kernel:
            yield kernel


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kernel(
    components: dict[str, Path], scripted_backend: FaultyLlm
) -> AsyncGenerator[KernelProcess, None]:
    async with scripted(components, scripted_backend) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hurried_kernel(
    components: dict[str, Path], scripted_backend: FaultyLlm
) -> AsyncGenerator[KernelProcess, None]:
    """Its runs have little time."""
    async with scripted(components, scripted_backend, run_timeout=f"{RUN_TIMEOUT}s") as kernel:
        yield kernel


# --- tools ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["0.3", "0.4", "0.5"])
async def test_two_tools_in_one_batch_are_called_at_once(world: World, line: str) -> None:
    """Each of the two calls waits until the other one is there."""
    world.tools.met.clear()
    world.tools.waiting["meet"] = 0
    ((first, second),) = await tour(world.kernel, line, [tools(("meet", {}), ("meet", {}))])
    assert first == second == text("met")


async def test_tool_events_come_in_order_and_as_each_finishes(world: World) -> None:
    world.tools.let_go.clear()
    calls = [tools(("crowd", {}), ADD, ("saboteur", {})), tools(ADD)]
    async with world.kernel.open_stream(TOURS["0.5"], calls) as live:
        assert await live.next() == ("message", {"type": "begin"})
        for name in ("crowd", "add", "saboteur"):
            assert await live.next() == ("tool", {"type": "begin", "name": name})
        # The first of the batch is still at work.
        assert await live.next() == ("tool", {"type": "end", "name": "add"})
        failed = {"type": "error", "name": "saboteur", "message": "Out of cheese."}
        assert await live.next() == ("tool", failed)
        world.tools.let_go.set()
        assert await live.next() == ("tool", {"type": "end", "name": "crowd"})
        assert await live.next() == ("message", {"type": "append", "text": "invoke_tool"})
        assert await live.next() == ("tool", {"type": "begin", "name": "add"})
        assert await live.next() == ("tool", {"type": "end", "name": "add"})
        assert await live.next() == ("message", {"type": "append", "text": "invoke_tool"})
        name, end = await live.next()
    assert (name, end["payload"][0]) == (
        "message",
        [text("through"), text("3"), "Out of cheese."],
    )


@pytest.mark.parametrize("line", ["0.3", "0.4"])
async def test_an_error_after_tool_calls_ends_a_function(world: World, line: str) -> None:
    calls = [tools(ADD, ADD), tools(ADD), ("complete", [completion("luminous")])]
    response = await world.kernel.run(TOURS[line], calls)
    assert problem(response) == (401, "token_required")


async def test_an_error_after_tool_calls_ends_a_stream(world: World) -> None:
    calls = [tools(ADD), ("complete", [completion("luminous")])]
    result = await world.kernel.stream(TOURS["0.5"], calls)
    assert result.events[:-1] == [
        ("message", {"type": "begin"}),
        ("tool", {"type": "begin", "name": "add"}),
        ("tool", {"type": "end", "name": "add"}),
        ("message", {"type": "append", "text": "invoke_tool"}),
    ]
    assert result.error["code"] == "token_required"


async def test_a_tool_that_hangs_fails_alone(world: World) -> None:
    ((hung, added),) = await tour(world.kernel, "0.4", [tools(("hang", {}), ADD)])
    assert added == text("3")
    assert isinstance(hung, str)
    assert "1 s" in hung
    await asyncio.wait_for(world.slow_tools.cancelled.wait(), PATIENCE)


# --- many requests --------------------------------------------------------------------------------


async def test_many_languages(world: World) -> None:
    texts = {"deu": GERMAN, "eng": "The lazy dog sleeps in front of the warm house."}
    languages = ["deu", "eng"] * (MANY // 2)
    body = [{"text": texts[language], "languages": ["eng", "deu"]} for language in languages]
    response = await post(world.kernel, "/csi/v2/select_language", body)
    assert response.json() == languages


async def test_many_tools_over_http(world: World) -> None:
    _, body = tools(*(("add", {"a": n, "b": 1}) for n in range(MANY)))
    response = await post(world.kernel, "/csi/v2/invoke_tool", body)
    assert response.json() == [text(str(n + 1)) for n in range(MANY)]


async def test_many_requests_of_a_skill(world: World) -> None:
    languages: Call = ("select_language", [{"text": GERMAN, "languages": ["eng", "deu"]}] * MANY)
    calls = [tools(*(("subtract", {"a": n, "b": 1}) for n in range(MANY))), languages]
    results, found = await tour(world.kernel, "0.4", calls)
    assert results == [text(str(n - 1)) for n in range(MANY)]
    assert found == ["deu"] * MANY


async def test_a_server_gets_only_so_many_calls_at_once(world: World) -> None:
    world.tools.let_go.clear()
    world.tools.crowded.clear()
    world.tools.most_crowded = 0
    batch = [tools(*[("crowd", {})] * (3 * MAX_PARALLEL_CALLS))]
    run = asyncio.create_task(tour(world.kernel, "0.4", batch))
    await asyncio.wait_for(world.tools.crowded.wait(), PATIENCE)
    # Whoever else comes is served meanwhile.
    assert await tour(world.kernel, "0.3", [tools(ADD)]) == [[text("3")]]
    world.tools.let_go.set()
    assert await run == [[text("through")] * (3 * MAX_PARALLEL_CALLS)]
    assert world.tools.most_crowded == MAX_PARALLEL_CALLS


async def test_many_chats_are_bounded_and_answered_in_order(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    """The backend does not answer before as many requests are there as the kernel ever sends."""
    most = inspect.signature(OpenAiDriver).parameters["max_concurrency"].default
    full = asyncio.Event()

    async def repeat(request: web.Request, body: Json) -> web.StreamResponse:
        if backend.active == most:
            full.set()
        await full.wait()
        return await answer(body=message(body["messages"][-1]["content"]))(request, body)

    backend.default = repeat
    backend.most_active = 0
    numbers = [str(n) for n in range(most + 500)]
    body = [chat("m") | {"messages": [{"role": "user", "content": n}]} for n in numbers]
    (answers,) = await tour(kernel, "0.4", [("chat", body)])
    assert [a["message"]["content"] for a in answers] == numbers
    assert backend.most_active == most


# --- providers that hang --------------------------------------------------------------------------


async def idle(kernel: KernelProcess, backend: FaultyLlm) -> None:
    """Neither runs nor requests to the backend are left."""

    async def nothing_left() -> bool:
        return backend.active == 0 and await kernel.active_runs() == 0

    await until(nothing_left, "runs and requests have ended")


@pytest.mark.parametrize("line", FUNCTIONS)
async def test_a_provider_that_hangs(
    hurried_kernel: KernelProcess, backend: FaultyLlm, line: str
) -> None:
    """One request of a batch is enough."""
    backend.will(hang())
    flat = {"model": "m", "messages": [{"role": "user", "content": "x"}], "params": {}}
    body = flat if line == "0.2" else [chat("m") for _ in range(3)]
    began = time.monotonic()
    response = await hurried_kernel.run(TOURS[line], [("chat", body)])
    assert response.status_code == 504, response.text
    assert response.json()["code"] in ("run_timed_out", "upstream_timeout")
    assert RUN_TIMEOUT - 0.5 < time.monotonic() - began < RUN_TIMEOUT + 3
    await idle(hurried_kernel, backend)


@pytest.mark.parametrize(
    ("function", "body", "first"),
    [("chat_stream", chat("m"), FIRST), ("completion_stream", completion("m"), FIRST_TEXT)],
    ids=["chat", "completion"],
)
class TestStreams:
    async def test_one_that_hangs_ends_at_the_deadline(
        self,
        hurried_kernel: KernelProcess,
        backend: FaultyLlm,
        function: str,
        body: Json,
        first: bytes,
    ) -> None:
        backend.will(stream_then_hang(first))
        result = await hurried_kernel.stream(TOURS["0.5"], [(function, body)])
        assert result.error["status"] == 504
        await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)

    @pytest.mark.parametrize("line", ["0.3", "0.4", "0.5"])
    async def test_one_that_is_dropped_ends_its_request(
        self,
        kernel: KernelProcess,
        backend: FaultyLlm,
        function: str,
        body: Json,
        first: bytes,
        line: str,
    ) -> None:
        backend.will(stream_then_hang(first))
        await tour(kernel, line, [(f"{function}_begun", body)])
        await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
        await idle(kernel, backend)

    @pytest.mark.parametrize("line", ["0.3", "0.4", "0.5"])
    async def test_one_that_nobody_reads_ends_its_request(
        self,
        kernel: KernelProcess,
        backend: FaultyLlm,
        function: str,
        body: Json,
        first: bytes,
        line: str,
    ) -> None:
        backend.default = stream_then_hang(first)
        unread = [(f"{function}_unread", body)] * 3
        assert await tour(kernel, line, unread) == [[], [], []]
        await idle(kernel, backend)

    @pytest.mark.parametrize("version", ["v1", "v2"])
    async def test_a_client_that_leaves_ends_the_request(
        self,
        kernel: KernelProcess,
        backend: FaultyLlm,
        function: str,
        body: Json,
        first: bytes,
        version: str,
    ) -> None:
        backend.will(stream_then_hang(first))
        url = f"/csi/{version}/{function}"
        async with kernel.client.stream("POST", url, json=body) as response:
            lines = response.aiter_lines()
            while "Hel" not in await asyncio.wait_for(anext(lines), PATIENCE):
                pass
        await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
        await idle(kernel, backend)

    async def test_a_client_that_leaves_before_the_first_event(
        self,
        kernel: KernelProcess,
        backend: FaultyLlm,
        function: str,
        body: Json,
        first: bytes,
    ) -> None:
        backend.will(hang())
        await _leave(kernel, backend, f"/csi/v2/{function}", body)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_client_that_leaves_a_batch_ends_all_its_requests(
    kernel: KernelProcess, backend: FaultyLlm, version: str
) -> None:
    backend.default = hang()
    await _leave(kernel, backend, f"/csi/{version}/chat", [chat("m")] * 5)


async def _leave(kernel: KernelProcess, backend: FaultyLlm, path: str, body: Json) -> None:
    request = asyncio.create_task(post(kernel, path, body))
    await asyncio.wait_for(backend.arrived.wait(), PATIENCE)
    request.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await request
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
    await idle(kernel, backend)


async def test_an_error_in_a_stream_comes_after_what_was_said_before(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    backend.will(stream_then_hang(FIRST + sse({"error": {"message": "out of memory"}})))
    response = await post(kernel, "/csi/v2/chat_stream", chat("m"))
    *said, (name, error) = events(response.text)
    assert said == [
        ["message_begin", {"role": "assistant"}],
        ["message_append", {"content": "Hel"}],
    ]
    assert (name, error["code"]) == ("error", "upstream_rejected")


# --- metadata -------------------------------------------------------------------------------------


async def test_the_csi_is_not_for_metadata(
    hurried_kernel: KernelProcess, backend: FaultyLlm
) -> None:
    """Not even to open a stream."""
    response = await hurried_kernel.metadata("metadata_chat")
    assert problem(response) == (500, "csi_use_from_metadata")
    assert not backend.received
