"""Skills for clients of other protocols: here these clients are another kernel.

It has the first kernel's namespace as an MCP server, and its skills as models.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest_asyncio

from tests.support.kernel import KernelHome, KernelProcess, temporary_home, until
from tests.support.llm import Llm
from tools.build_skills import build

CHAT = """
[namespaces.talk]
path = "talk"
skills = [{ type = "chat", name = "helper", version = "1", model = "tiny", system_prompt = "Hi" }]
"""
OUTER = """
[namespaces.outer]
directory = "outer"
mcp-servers = ["{url}/mcp/dev"]
"""
HI = {"role": "user", "content": "Hi"}


def add_namespace(home: KernelHome, name: str, toml: str) -> None:
    (home.folder / name).mkdir()
    with (home.folder / "config.toml").open("a") as config:
        config.write(toml)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def serving(llm: Llm) -> AsyncGenerator[KernelProcess, None]:
    backend = {"openai_inference__url": llm.url, "openai_inference__token": llm.token}
    with temporary_home(engines=1, **backend) as home:
        add_namespace(home, "talk", CHAT)
        home.deploy_all(build(("greet",), report=lambda _: None))
        async with home.running() as kernel:
            yield kernel


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asking(serving: KernelProcess) -> AsyncGenerator[KernelProcess, None]:
    models = {"openai_inference__url": f"{serving.url}/openai/v1", "openai_inference__token": "x"}
    with temporary_home(engines=1, **models) as home:
        add_namespace(home, "outer", OUTER.format(url=serving.url))
        async with home.running() as kernel:
            yield kernel


async def test_a_skill_is_a_tool_of_the_other_kernel(asking: KernelProcess) -> None:
    async def listed() -> list[str]:
        tools = (await asking.client.get("/v1/tools/outer")).json()
        return [tool["name"] for tool in tools]

    assert await until(listed, "the skill is listed as a tool") == ["greet"]
    argument = {"name": "name", "value": "Homer"}
    call = {"namespace": "outer", "requests": [{"name": "greet", "arguments": [argument]}]}
    answer = await asking.client.post("/csi/v1/invoke_tool", json=call)
    assert "Hello Homer" in json.dumps(answer.json()), answer.text


async def test_a_skill_is_a_model_of_the_other_kernel(asking: KernelProcess, llm: Llm) -> None:
    request = {"model": "talk/helper", "messages": [HI], "params": {"max_tokens": 8}}
    answer = await asking.client.post("/csi/v1/chat", json=[request])
    assert answer.status_code == 200, answer.text
    (chat,) = answer.json()
    assert chat["message"]["content"]
    assert chat["finish_reason"] in ("stop", "length")


async def test_its_answer_streams_through_both(asking: KernelProcess) -> None:
    request = {"model": "talk/helper", "messages": [HI], "params": {}}
    answer = await asking.client.post("/csi/v1/chat_stream", json=request)
    assert answer.status_code == 200, answer.text
    assert answer.text.count("message_append") > 1
    assert "message_end" in answer.text


async def test_only_chats_are_models(serving: KernelProcess) -> None:
    models = (await serving.client.get("/openai/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["talk/helper"]
