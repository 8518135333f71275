"""Traces of a whole kernel, as a collector gets them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.conftest import NewHome, inference
from tests.support import mcp_servers
from tests.support.faulty_llm import FaultyLlm, error, hang
from tests.support.kernel import (
    NATIVE_TOOLS,
    KernelHome,
    KernelProcess,
    temporary_home,
    until,
)
from tests.telemetry.collector import Collector, SeenSpan, grpc_collector, http_collector, tree

TRACES = iter(range(1, 1000))
CALLER = "00f067aa0ba902b7"
PROMPT = "prompt-that-is-secret"
SKILLS = (
    "chat_04",
    "chat_batch",
    "greet",
    "printer",
    "stream_chat",
    "tool_user",
)


def caller(sampled: bool = True) -> tuple[str, dict[str, str]]:
    """Id of a new trace, and the headers of a request in it."""
    trace = f"{next(TRACES):032x}"
    return trace, {"traceparent": f"00-{trace}-{CALLER}-{sampled:02x}"}


def chat(**params: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "params": params}


def named(spans: list[SeenSpan], name: str) -> SeenSpan:
    (span,) = [span for span in spans if span.name == name]
    return span


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def collector() -> AsyncGenerator[Collector, None]:
    async with http_collector() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traced(
    components: dict[str, Path], scripted_backend: FaultyLlm, collector: Collector
) -> AsyncGenerator[KernelProcess, None]:
    settings = inference(scripted_backend) | {
        "otel_endpoint": collector.endpoint,
        "otel_sampling_ratio": "0",
        "engines": 1,
    }
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, **settings) as home:
        home.deploy_all({name: components[name] for name in SKILLS})
        async with home.running() as process:
            yield process


# --- trees ----------------------------------------------------------------------------------------


async def test_a_warm_run(traced: KernelProcess, collector: Collector) -> None:
    trace, headers = caller()
    response = await traced.run("greet", {"name": "World"}, headers=headers)
    spans = await collector.trace(trace, 4)
    server = spans[0]
    assert tree(spans) == (
        "POST /v1/skills/{namespace}/{name}/run",
        [("check_permissions", []), ("load_skill", []), ("skill_execution", [])],
    )
    assert server.parent == CALLER
    assert response.headers["traceparent"] == f"00-{trace}-{server.id}-01"
    assert server.kind == "SERVER" and not any(span.failed for span in spans)
    address, port = traced.url.removeprefix("http://").split(":")
    assert (
        server.attributes.items()
        >= {
            "http.request.method": "POST",
            "http.route": "/v1/skills/{namespace}/{name}/run",
            "http.response.status_code": 200,
            "network.protocol.version": "1.1",
            "server.address": address,
            "server.port": int(port),
            "url.path": "/v1/skills/dev/greet/run",
            "url.scheme": "http",
        }.items()
    )
    assert server.attributes["user_agent.original"].startswith("python-httpx/")
    run = named(spans, "skill_execution").attributes
    assert run["skill"] == "dev/greet" and run["digest"].startswith("sha256:")
    lines = [entry for entry in traced.entries() if entry.get("trace_id") == trace]
    assert [line["run_id"] for line in lines] == [run["run_id"]]
    assert lines[0]["skill"] == "dev/greet" and lines[0]["namespace"] == "dev"


async def test_a_cold_run(
    components: dict[str, Path], collector: Collector, tmp_path: Path
) -> None:
    """The skill is asked for while it is compiled for the first time."""
    settings = {"otel_endpoint": collector.endpoint, "otel_sampling_ratio": "0", "engines": 1}
    with temporary_home(artifacts=tmp_path, **settings) as home:
        home.deploy("tiny_echo", components["tiny_echo"])
        async with started(home) as kernel:
            trace, headers = caller()
            while (await kernel.run("tiny_echo", 1, headers=headers)).status_code != 200:
                trace, headers = caller()  # the namespace has not been read
            spans = await collector.trace(trace, 7)
    assert tree(spans) == (
        "POST /v1/skills/{namespace}/{name}/run",
        [
            ("check_permissions", []),
            ("load_skill", [("download", []), ("compile", []), ("load", [])]),
            ("skill_execution", []),
        ],
    )
    assert named(spans, "load_skill").attributes["cold"] is True


async def test_a_stream(traced: KernelProcess, collector: Collector, backend: FaultyLlm) -> None:
    trace, headers = caller()
    stream = await traced.stream("stream_chat", chat(), headers=headers)
    assert stream.end["completion_tokens"] == 5
    spans = await collector.trace(trace, 5)
    assert tree(spans) == (
        "POST /v1/skills/{namespace}/{name}/message-stream",
        [
            ("check_permissions", []),
            ("load_skill", []),
            ("skill_execution", [("chat", [])]),
        ],
    )
    asked = named(spans, "chat")
    host, port = backend.url.removeprefix("http://").removesuffix("/v1").split(":")
    assert asked.kind == "CLIENT"
    assert asked.attributes.pop("gen_ai.response.time_to_first_chunk") > 0
    assert asked.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 5,
        "server.address": host,
        "server.port": int(port),
    }
    assert backend.received[-1].headers["traceparent"] == f"00-{trace}-{asked.id}-01"
    run = named(spans, "skill_execution")
    assert run.begin <= asked.begin and asked.end <= run.end


async def test_a_batch(traced: KernelProcess, collector: Collector, backend: FaultyLlm) -> None:
    trace, headers = caller()
    await traced.run("chat_batch", {"model": "m", "texts": ["a", "b"]}, headers=headers)
    spans = await collector.trace(trace, 7)
    assert tree(spans)[1][2] == (
        "skill_execution",
        [("chat_concurrent", [("chat", []), ("chat", [])])],
    )
    assert named(spans, "chat_concurrent").attributes == {"requests": 2}
    ids = {span.id for span in spans if span.name == "chat"}
    assert {r.headers["traceparent"] for r in backend.received} == {
        f"00-{trace}-{id}-01" for id in ids
    }


async def test_tools(traced: KernelProcess, collector: Collector) -> None:
    trace, headers = caller()
    await traced.run("tool_user", {"a": 1, "b": 2}, headers=headers)
    spans = await collector.trace(trace, 11)
    ((batch, calls), listed) = sorted(tree(spans)[1][2][1], key=lambda child: child[0])
    assert (batch, listed) == ("invoke_tool_concurrent", ("list_tools", []))
    assert sorted(calls) == [
        ("invoke_tool", []),
        ("invoke_tool", [("execute_tool add", [])]),
        ("invoke_tool", [("execute_tool subtract", [])]),
    ]
    assert named(spans, "execute_tool add").attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.type": "function",
    }
    (unknown,) = [s for s in spans if s.attributes.get("tool_name") == "no-such-tool"]
    assert unknown.failed and unknown.attributes["error.type"] == "tool_failed"


async def test_system_calls_over_http(
    traced: KernelProcess, collector: Collector, backend: FaultyLlm
) -> None:
    trace, headers = caller()
    asked = [chat(temperature=0.5)]
    response = await traced.client.post("/csi/v1/chat", json=asked, headers=headers)
    assert response.status_code == 200
    spans = await collector.trace(trace, 3)
    assert tree(spans) == ("POST /csi/v1/chat", [("check_permissions", []), ("chat", [])])
    assert named(spans, "chat").attributes["gen_ai.request.temperature"] == 0.5


async def test_what_a_skill_prints(traced: KernelProcess, collector: Collector) -> None:
    trace, headers = caller()
    await traced.run("printer", {"text": "hello"}, headers=headers)
    run = named(await collector.trace(trace, 4), "skill_execution")
    assert {(e.name, e.attributes["log.record.original"]) for e in run.events} == {
        ("log", "hello 0 to stdout"),
        ("log", "hello 0 to stderr"),
    }
    lines = [e for e in traced.entries() if e["logger"] == "pharia_kernel.skill"]
    assert {line["trace_id"] for line in lines if "hello" in line["message"]} == {trace}


# --- failures -------------------------------------------------------------------------------------


async def test_a_failure(traced: KernelProcess, collector: Collector, backend: FaultyLlm) -> None:
    backend.will(error(400, code="context_length_exceeded"))
    trace, headers = caller()
    response = await traced.run("chat_04", chat(), headers=headers)
    assert response.status_code >= 500 and response.json()["trace_id"] == trace
    code = response.json()["code"]
    spans = await collector.trace(trace, 5)
    for name in ("POST /v1/skills/{namespace}/{name}/run", "skill_execution", "chat"):
        span = named(spans, name)
        assert span.failed and span.attributes["error.type"] == code, name
    assert not named(spans, "load_skill").failed


async def test_a_callers_mistake_is_no_error_of_the_server(
    traced: KernelProcess, collector: Collector
) -> None:
    trace, headers = caller()
    response = await traced.run("no-such-skill", headers=headers)
    assert response.status_code == 404
    spans = await collector.trace(trace, 2)
    assert not spans[0].failed
    assert spans[0].attributes["error.type"] == "skill_not_found"


async def test_a_cancelled_run(
    traced: KernelProcess, collector: Collector, backend: FaultyLlm
) -> None:
    backend.will(hang())
    trace, headers = caller()
    request = asyncio.create_task(traced.run("chat_04", chat(), headers=headers))
    await asyncio.wait_for(backend.arrived.wait(), 30)
    request.cancel()
    spans = await collector.trace(trace, 5)
    for name in ("POST /v1/skills/{namespace}/{name}/run", "skill_execution", "chat"):
        span = named(spans, name)
        assert not span.failed and span.attributes["error.type"] == "cancelled", name


# --- sampling -------------------------------------------------------------------------------------


async def test_nothing_is_exported_of_traces_that_are_not_sampled(
    traced: KernelProcess, collector: Collector, backend: FaultyLlm
) -> None:
    trace, headers = caller(sampled=False)
    response = await traced.run("chat_04", chat(), headers=headers)
    for told in (backend.received[-1].headers, response.headers):
        assert told["traceparent"].startswith(f"00-{trace}-")
        assert told["traceparent"].endswith("-00") and CALLER not in told["traceparent"]
    response = await traced.run("greet", {"name": "x"})
    unrelated = response.headers["traceparent"].split("-")[1]
    # What comes after it has arrived, so it would have, too.
    later, headers = caller()
    await traced.run("greet", {"name": "x"}, headers=headers)
    await collector.trace(later, 4)
    assert collector.of_trace(trace) == collector.of_trace(unrelated) == []


# --- protocols and collectors ---------------------------------------------------------------------


@contextlib.asynccontextmanager
async def started(home: KernelHome) -> AsyncGenerator[KernelProcess, None]:
    """A kernel that may not be ready."""
    kernel = home.start()
    try:
        await kernel.listening()
        yield kernel
    finally:
        kernel.kill()
        await kernel.close()


async def test_grpc_with_prompts_and_mcp(
    components: dict[str, Path], backend: FaultyLlm, new_home: NewHome
) -> None:
    """Stopping the kernel sends what is left."""
    trace, headers = caller()
    call = {"namespace": "dev", "requests": [{"name": "echo", "arguments": [_argument("x", 1)]}]}
    with grpc_collector() as collector:
        async with mcp_servers.running("echo") as tools:
            home = new_home(
                **inference(backend),
                otel_endpoint=collector.endpoint,
                otel_gen_ai_content_capture="true",
            )
            config = home.folder / "config.toml"
            config.write_text(f'{config.read_text()}\nmcp-servers = ["{tools.url}"]')
            home.deploy("chat_04", components["chat_04"])
            async with home.running() as kernel:
                await kernel.run("chat_04", chat(), headers=headers)

                async def answers() -> bool:
                    response = await kernel.client.post("/csi/v1/invoke_tool", json=call)
                    return "not found" not in response.text

                await until(answers, "the tool is there")
                await kernel.client.post("/csi/v1/invoke_tool", json=call, headers=headers)
                (sent,) = [r for r in tools.calls("echo") if trace in r.headers["traceparent"]]
        spans = collector.of_trace(trace)
    asked = named(spans, "chat").attributes
    assert json.loads(asked["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": PROMPT}]}
    ]
    assert json.loads(asked["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "token token token token token"}],
            "finish_reason": "stop",
        }
    ]
    executed = named(spans, "execute_tool echo")
    assert executed.kind == "CLIENT"
    assert executed.attributes["gen_ai.tool.type"] == "extension"
    assert executed.attributes["mcp.method.name"] == "tools/call"
    assert json.loads(executed.attributes["gen_ai.tool.call.arguments"]) == {"x": 1}
    assert sent.headers["traceparent"] == f"00-{trace}-{executed.id}-01"


def _argument(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "value": value}


async def test_a_dead_collector_costs_nothing(
    components: dict[str, Path], new_home: NewHome, unused_address: str
) -> None:
    """Runs succeed, and the kernel stops as it should."""
    home = new_home(
        otel_endpoint=f"http://{unused_address}", otel_protocol="grpc", otel_sampling_ratio="1"
    )
    home.deploy("tiny_echo", components["tiny_echo"])
    async with home.running() as kernel:
        answers = await asyncio.gather(*(kernel.run("tiny_echo", n) for n in range(100)))
        assert [answer.json() for answer in answers] == list(range(100))


@pytest.fixture
def unused_address() -> Iterator[str]:
    """Nobody listens there, and nobody else can."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"
