"""The skills of namespace ``test-beta``, which are there without configuration."""

from __future__ import annotations

import pytest

from tests.integration.conftest import NewHome, inference
from tests.support.faulty_llm import FaultyLlm, chunk, sse, stream
from tests.support.kernel import KernelProcess, problem

BUILT_IN = ("hello", "saboteur", "tell_me_a_joke", "tool_caller")
BEGIN = ("message", {"type": "begin"})


def append(text: str) -> tuple[str, dict[str, str]]:
    return "message", {"type": "append", "text": text}


def end(payload: object = None) -> tuple[str, dict[str, object]]:
    return "message", {"type": "end", "payload": payload}


async def test_hello_streams_letters(kernel: KernelProcess) -> None:
    events = (await kernel.stream("test-beta/hello", {})).events
    assert events == [BEGIN, *map(append, "Hello"), end()]


async def test_hello_on_the_wire(kernel: KernelProcess) -> None:
    response = (await kernel.stream("test-beta/hello", {})).response
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.startswith(
        'event: message\ndata: {"type":"begin"}\n\n'
        'event: message\ndata: {"type":"append","text":"H"}\n\n'
    )
    assert response.text.endswith('event: message\ndata: {"type":"end","payload":null}\n\n')


async def test_the_saboteur_fails(kernel: KernelProcess) -> None:
    error = (await kernel.stream("test-beta/saboteur", {})).error
    assert (error["code"], error["status"]) == ("skill_failed", 400)
    assert "Skill is a saboteur" in error["message"]


async def test_tell_me_a_joke_asks_a_model(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.will(
        stream(
            sse(
                chunk({"role": "assistant", "content": ""}),
                chunk({"content": "Knock"}),
                chunk({"content": " knock"}),
                chunk(finish="stop"),
                chunk(usage=(10, 2)),
                "[DONE]",
            )
        )
    )
    events = (await kernel.stream("test-beta/tell_me_a_joke", {})).events
    assert events == [BEGIN, append("Knock"), append(" knock"), end("Stop")]
    request = backend.received[-1].body
    assert request["model"] == "llama-3.1-8b-instruct"
    assert (request["max_tokens"], request["temperature"]) == (300, 0.3)
    ((role, content),) = [(m["role"], m["content"]) for m in request["messages"]]
    assert role == "user"
    assert "joke" in content


async def test_tool_caller_calls_a_tool(kernel: KernelProcess) -> None:
    events = (await kernel.stream("test-beta/tool_caller", {})).events
    assert events[:3] == [
        ("tool", {"type": "begin", "name": "add"}),
        ("tool", {"type": "end", "name": "add"}),
        BEGIN,
    ]
    (sentence,) = [data["text"] for _, data in events[3:-1]]
    assert sentence.endswith("3")
    assert events[-1] == end()


@pytest.mark.parametrize(
    ("skill", "status", "code"),
    [
        ("hello", 400, "skill_failed"),
        ("saboteur", 409, "wrong_skill_kind"),
        ("tell_me_a_joke", 400, "skill_failed"),
        ("tool_caller", 400, "skill_failed"),
    ],
)
async def test_they_do_not_run(kernel: KernelProcess, skill: str, status: int, code: str) -> None:
    assert problem(await kernel.run(f"test-beta/{skill}", {})) == (status, code)


async def test_they_are_not_listed_but_their_tools_are(kernel: KernelProcess) -> None:
    listing = (await kernel.client.get("/v1/skills")).json()
    assert not [path for path in listing if path.startswith("test-beta/")]
    tools = (await kernel.client.get("/v1/tools/test-beta")).json()
    assert [tool["name"] for tool in tools] == ["add", "saboteur", "subtract"]
    assert (await kernel.client.get("/v1/mcp_servers/test-beta")).status_code == 404


async def test_they_can_be_switched_off(new_home: NewHome, scripted_backend: FaultyLlm) -> None:
    home = new_home(test_skills="false", engines=1, **inference(scripted_backend))
    async with home.running() as kernel:
        for skill in BUILT_IN:
            response = (await kernel.stream(f"test-beta/{skill}", {})).response
            assert problem(response) == (404, "skill_not_found")
            assert problem(await kernel.run(f"test-beta/{skill}", {})) == (404, "skill_not_found")
        assert (await kernel.client.get("/v1/tools/test-beta")).status_code == 404
