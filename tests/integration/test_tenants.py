"""Two tenants at the same time: nobody sees anything of anybody else's."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from tests.integration.conftest import BACKEND_TOKEN, inference
from tests.support.faulty_llm import FaultyLlm, Json, chunk, message, sse
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, temporary_home

TENANTS = ("left", "right")
REQUESTS = 400
MARKER = re.compile(r"mark-[a-z]+-\d+")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_kernel(
    components: dict[str, Path], scripted_backend: FaultyLlm
) -> AsyncGenerator[KernelProcess, None]:
    """One kernel for both; only one of them has tools."""
    names = ("greet_02", "chat_02", "chat_04", "stream_05", "tool_user", "user_error")
    namespaces: dict[str, Any] = {"left": NATIVE_TOOLS, "right": ()}
    with temporary_home(namespaces=namespaces, **inference(scripted_backend)) as home:
        for tenant in TENANTS:
            home.deploy_all({name: components[name] for name in names}, tenant)
        async with home.running() as kernel:
            yield kernel


async def parrot(request: web.Request, body: Json) -> web.StreamResponse:
    """Repeats what it was told after a moment, as the model's name wants it."""
    said = body["messages"][-1]["content"]
    await asyncio.sleep(random.Random(said).uniform(0, 0.05))
    if body["model"] == "refuse":
        return web.json_response({"error": {"message": said}}, status=400)
    if not body.get("stream"):
        return web.json_response(message(said))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for piece in said:
        await response.write(sse(chunk({"content": piece})))
    if body["model"] == "break":
        await response.write(sse({"error": {"message": said}}))
    else:
        await response.write(sse(chunk(finish="stop"), "[DONE]"))
    return response


class Tenant:
    """Makes requests that all contain a marker of their own, and knows what is to come back."""

    def __init__(self, kernel: KernelProcess, name: str) -> None:
        self._kernel = kernel
        self.name = name

    async def run(self, skill: str, input: Any) -> tuple[int, str]:
        token = {"Authorization": f"Bearer token-of-{self.name}"}
        response = await self._kernel.run(f"{self.name}/{skill}", input, headers=token)
        return response.status_code, response.text

    async def succeed(self, mark: str) -> None:
        assert await self.run("greet_02", {"name": mark}) == (200, f'"Hello {mark}"')

    async def be_answered(self, mark: str) -> None:
        status, text = await self.run("chat_02", {"function": "chat", **_chat("m", mark)})
        assert (status, json.loads(text)["message"]["content"]) == (200, mark)

    async def be_refused(self, mark: str) -> None:
        status, text = await self.run("chat_04", _chat("refuse", mark))
        assert (status, json.loads(text)["code"]) == (502, "upstream_rejected")
        assert mark in text

    async def be_wrong(self, mark: str) -> None:
        status, text = await self.run("chat_04", _chat("m", mark, logprobs=mark))
        assert (status, json.loads(text)["code"]) == (400, "invalid_input")
        assert mark in text

    async def call_wrongly(self, mark: str) -> None:
        chat = {"model": "m", "messages": [{"role": mark, "content": "x"}]}
        status, text = await self.run("chat_04", chat)
        assert (status, json.loads(text)["code"]) == (422, "invalid_csi_request")
        assert mark in text

    async def fail(self, mark: str) -> None:
        status, text = await self.run("user_error", mark)
        assert (status, json.loads(text)["skill"]) == (400, f"{self.name}/user_error")

    async def use_tools(self, mark: str) -> None:
        number = int(mark.rpartition("-")[2])
        status, text = await self.run("tool_user", {"a": number, "b": 1})
        answer = json.loads(text)
        assert status == 200
        if self.name == "left":
            assert answer["tools"] == ["add", "saboteur", "subtract"]
            assert answer["results"][:2] == [str(number + 1), str(number - 1)]
        else:
            assert answer["tools"] == []
            assert answer["results"][0].startswith("error: ")

    async def stream(self, mark: str) -> None:
        stream = await self._kernel.stream(f"{self.name}/stream_05", _chat("m", mark))
        assert stream.text == mark
        assert stream.end["finish_reason"] == "stop"

    async def stream_until_it_breaks(self, mark: str) -> None:
        stream = await self._kernel.stream(f"{self.name}/stream_05", _chat("break", mark))
        assert stream.text == mark
        assert MARKER.findall(stream.error["message"]) == [mark]
        assert stream.error["skill"] == f"{self.name}/stream_05"


def _chat(model: str, text: str, **params: Any) -> Json:
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "params": params,
    }


ACTIONS: list[Callable[[Tenant, str], Awaitable[None]]] = [
    Tenant.succeed,
    Tenant.be_answered,
    Tenant.be_refused,
    Tenant.be_wrong,
    Tenant.call_wrongly,
    Tenant.fail,
    Tenant.use_tools,
    Tenant.stream,
    Tenant.stream_until_it_breaks,
]


async def test_everybody_gets_only_their_own(
    shared_kernel: KernelProcess, backend: FaultyLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.default = parrot
    foreign: list[str] = []
    tenants = [Tenant(shared_kernel, name) for name in TENANTS]
    original = Tenant.run

    async def checked(self: Tenant, skill: str, input: Any) -> tuple[int, str]:
        status, text = await original(self, skill, input)
        (own,) = set(MARKER.findall(json.dumps(input))) or {""}
        foreign.extend(mark for mark in MARKER.findall(text) if mark != own)
        return status, text

    monkeypatch.setattr(Tenant, "run", checked)
    plan = [
        ACTIONS[n % len(ACTIONS)](tenant, f"mark-{tenant.name}-{n}")
        for n in range(REQUESTS // 2)
        for tenant in tenants
    ]
    random.Random(7).shuffle(plan)
    await asyncio.gather(*plan)
    assert foreign == []
    assert {request.headers["authorization"] for request in backend.received} == {
        f"Bearer {BACKEND_TOKEN}"
    }
    await shared_kernel.idle()


async def test_the_log_tells_whose_run_it_was(shared_kernel: KernelProcess) -> None:
    response = await shared_kernel.run("left/user_error")
    run_id = response.json()["run_id"]
    (line,) = [m for m in shared_kernel.messages() if run_id in m]
    assert "skill=left/user_error" in line
