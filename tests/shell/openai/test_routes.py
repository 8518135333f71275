"""``/openai/v1`` over HTTP. ``tests/integration/test_gateways.py`` has clients of that API ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from msgspec import Raw

from pharia_kernel.errors import (
    InvalidMetadata,
    KernelError,
    Overloaded,
    SkillFailed,
    SkillUnavailable,
)
from pharia_kernel.shell.auth import Authorizers
from pharia_kernel.skills.paths import SkillPath
from pharia_kernel.skills.types import (
    Caller,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    SkillInfo,
    SkillKind,
    SkillMetadata,
    SkillStatus,
    StreamEvent,
)
from tests.shell.auth.support import KEY, OTHER_KEY, api_keys, bearer, settings
from tests.shell.support import (
    Hanging,
    MemorySkills,
    app_of,
    drop,
    listening,
    post_raw,
    raises,
    returns,
    running,
    within,
)

PATH = "/openai/v1/chat/completions"
CHAT = Raw(b'{"type":"object","properties":{"messages":{"type":"array"}}}')
OTHER = Raw(b'{"type":"object","properties":{"name":{"type":"string"}}}')


async def chat(body: bytes) -> AsyncGenerator[StreamEvent, None]:
    yield MessageBegin()
    yield MessageAppend("Hello ")
    yield MessageAppend(json.loads(body)["messages"][0]["content"])
    yield MessageEnd(Raw(b'"length"'))


async def breaks(body: bytes) -> AsyncGenerator[StreamEvent, None]:
    yield MessageBegin()
    yield MessageAppend("Hel")
    raise SkillFailed("The author's mistake.")


@pytest.fixture
def skills() -> MemorySkills:
    ready = ["dev/breaks", "dev/chat", "dev/greet", "dev/says", "other/chat"]
    return MemorySkills(
        runs={"says": returns(b'"Hello"')},
        streams={"chat": chat, "breaks": breaks},
        descriptions={
            "chat": SkillMetadata(None, "0.4", SkillKind.MESSAGE_STREAM, CHAT, None),
            "breaks": SkillMetadata(None, "0.4", SkillKind.MESSAGE_STREAM, None, None),
            "greet": SkillMetadata(None, "0.4", SkillKind.FUNCTION, OTHER, None),
            "says": SkillMetadata(None, "0.4", SkillKind.FUNCTION, CHAT, None),
        },
        infos=[
            SkillInfo(path=SkillPath(*path.split("/")), status=SkillStatus.READY, since=7.5)
            for path in ready
        ],
    )


def request(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Ada"}], **more}


def data(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_models_are_skills_that_take_messages(skills: MemorySkills) -> None:
    async with running(app_of(skills)) as client:
        models = (await client.get("/openai/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["dev/chat", "dev/says", "other/chat"]
    assert models["data"][0] == {
        "id": "dev/chat",
        "object": "model",
        "created": 7,
        "owned_by": "dev",
    }


async def test_an_answer_as_a_whole(skills: MemorySkills) -> None:
    async with running(app_of(skills)) as client:
        answer = (await client.post(PATH, json=request("dev/chat"))).json()
    assert (answer["object"], answer["model"]) == ("chat.completion", "dev/chat")
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello Ada"}
    assert choice["finish_reason"] == "length"


async def test_an_answer_in_chunks(skills: MemorySkills) -> None:
    async with running(app_of(skills)) as client:
        answer = await client.post(PATH, json=request("dev/chat", stream=True))
    *chunks, done = data(answer)
    assert answer.headers["content-type"] == "text/event-stream"
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello Ada"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]


async def test_a_function_answers_as_well(skills: MemorySkills) -> None:
    async with running(app_of(skills)) as client:
        answer = (await client.post(PATH, json=request("dev/says"))).json()
    assert answer["choices"][0]["message"]["content"] == "Hello"


async def test_a_function_with_broken_metadata_answers_as_well(skills: MemorySkills) -> None:
    class Broken(MemorySkills):
        async def metadata(self, path: SkillPath, caller: Caller) -> SkillMetadata:
            raise InvalidMetadata("Its schema is none.")

    path = SkillPath("dev", "says")
    info = SkillInfo(path=path, status=SkillStatus.READY, kind=SkillKind.FUNCTION)
    async with running(app_of(Broken(runs=skills.runs, infos=[info]))) as client:
        answer = (await client.post(PATH, json=request("dev/says"))).json()
    assert answer["choices"][0]["message"]["content"] == "Hello"


async def test_a_failure_ends_the_stream(skills: MemorySkills) -> None:
    async with running(app_of(skills)) as client:
        answer = await client.post(PATH, json=request("dev/breaks", stream=True))
    *_, last = data(answer)
    assert last["error"]["message"] == "The author's mistake."
    assert last["error"]["code"] == "skill_failed"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (SkillFailed("No."), 400, "invalid_request_error"),
        (SkillUnavailable("Later."), 503, "server_error"),
        (Overloaded("Later."), 429, "invalid_request_error"),
    ],
)
async def test_failures_are_told_as_clients_know_them(
    skills: MemorySkills, error: KernelError, status: int, kind: str
) -> None:
    skills.runs["says"] = raises(error)
    async with running(app_of(skills)) as client:
        answer = await client.post(PATH, json=request("dev/says"))
    assert answer.status_code == status
    told = answer.json()["error"]
    assert (told["message"], told["type"], told["code"]) == (error.detail, kind, error.code)


async def test_an_unknown_model(skills: MemorySkills) -> None:
    async with running(app_of(skills)) as client:
        unknown = await client.post(PATH, json=request("dev/nothing"))
        no_path = await client.post(PATH, json=request("gpt-9"))
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    assert no_path.status_code == 400
    assert "gpt-9" in no_path.json()["error"]["message"]


async def test_the_namespace_of_the_model_decides(skills: MemorySkills) -> None:
    keys = api_keys(
        dev={"permissions": ["run"], "namespaces": ["dev"]},
        deployer={"permissions": ["deploy"], "namespaces": ["dev"]},
    )
    app = app_of(skills, auth=Authorizers(settings(api_keys=keys)))
    async with running(app) as client:
        own = await client.post(PATH, json=request("dev/chat"), headers=bearer(KEY))
        other = await client.post(PATH, json=request("other/chat"), headers=bearer(KEY))
        deployer = await client.post(PATH, json=request("dev/chat"), headers=bearer(OTHER_KEY))
        models = await client.get("/openai/v1/models", headers=bearer(KEY))
    assert (own.status_code, other.status_code, deployer.status_code) == (200, 403, 403)
    assert {model["owned_by"] for model in models.json()["data"]} == {"dev"}


async def test_a_client_that_goes_away_ends_the_run(skills: MemorySkills) -> None:
    skills.runs["says"] = hanging = Hanging()
    async with listening(app_of(skills)) as port:
        _, writer = await post_raw(port, PATH, json.dumps(request("dev/says")).encode())
        await within(hanging.started.wait())
        await drop(writer)
        await within(hanging.ended.wait())
    assert isinstance(hanging.outcome, asyncio.CancelledError)


async def test_an_answer_fits_into_memory(skills: MemorySkills) -> None:
    async def endless(body: bytes) -> AsyncGenerator[StreamEvent, None]:
        yield MessageBegin()
        while True:
            yield MessageAppend("x" * (1 << 20))

    skills.streams["chat"] = endless
    async with running(app_of(skills)) as client:
        answer = await within(client.post(PATH, json=request("dev/chat")))
    assert answer.status_code == 500
    assert "more than fits into one answer" in answer.json()["error"]["message"]
