"""Several providers in one kernel, one of which is the kernel itself."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.csi.calls import chat, completion
from tests.integration.csi.support import CALLER, TOURS, Call, World, http, post, same, tour
from tests.support.kernel import problem

STEPS: list[Call] = [
    ("chat", [chat("embedded-model")]),
    ("chat_stream", chat("embedded-model")),
    ("complete", [completion("embedded-model")]),
]


async def test_the_embedded_model_answers_a_skill_of_the_sdk(world: World) -> None:
    response = await world.kernel.run("chatty", {"model": "embedded-model", "text": "Hi"})
    assert response.status_code == 200, response.text
    assert response.json()
    input = {"model": "embedded-model", "messages": [{"role": "user", "content": "Hi"}]}
    result = await world.kernel.stream("stream_chat", input | {"max_tokens": 4})
    assert result.text
    assert result.end["completion_tokens"] == 4


@pytest.mark.parametrize("line", ["0.3", "0.4", "0.5"])
async def test_the_embedded_model_says_what_a_server_says(world: World, line: str) -> None:
    """It is the same file."""
    answers = await tour(world.kernel, line, STEPS)
    version = "v1" if line == "0.3" else "v2"
    elsewhere: list[Call] = [
        ("chat", [chat()]),
        ("chat_stream", chat()),
        ("complete", [completion()]),
    ]
    expected = await asyncio.gather(*(http(world.kernel, version, call) for call in elsewhere))
    assert answers == same(list(expected))


async def test_one_batch_may_go_to_all_of_them(world: World) -> None:
    models = ("tiny", "nickname", "embedded-model", "luminous")
    ((tiny, nickname, embedded, luminous),) = await tour(
        world.kernel, "0.4", [("complete", [completion(model) for model in models])], CALLER
    )
    assert [nickname, embedded] == same([tiny, tiny])
    assert luminous["text"] == " world"
    assert [body["model"] for _, body, _ in world.aleph_alpha.received] == ["luminous"]


async def test_only_aleph_alpha_explains(world: World) -> None:
    request = {"prompt": "p", "target": "t", "model": "tiny", "granularity": "auto"}
    response = await post(world.kernel, "/csi/v1/explain", [request])
    assert problem(response) == (503, "not_configured")
    skill = await world.kernel.run(TOURS["0.3"], [("explain", [request])])
    assert problem(skill) == problem(response)
    assert not world.aleph_alpha.received


async def test_aleph_alpha_wants_the_token_of_the_caller(world: World) -> None:
    response = await post(world.kernel, "/csi/v2/complete", [completion("luminous")])
    assert problem(response) == (401, "token_required")
    assert not world.aleph_alpha.received
