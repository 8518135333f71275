"""The same source, as a component and in development: callers can't tell them apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.dev.support import DevProcess, author, copy_skills, published_python, sdk_components
from tests.drivers.retrieval import embedding_server
from tests.drivers.tokenizers.tiny import tiny_json
from tests.integration.csi.support import CALLER, fill_index, same
from tests.support.aleph_alpha import running_aleph_alpha
from tests.support.kernel import KernelProcess, temporary_home
from tests.support.llm import Llm
from tools.build_skills import build

pytestmark = pytest.mark.timeout(200, func_only=True)

OWN = ("greet", "tour", "story", "faulty")
PUBLISHED = ("csi_tour", "stream_chat", "tool_user")
BACKENDS = """
[inference-models]
"tiny" = "openai"

[inference-providers.embeddings]
type = "openai"
url = "{embeddings}"
token = "{token}"

[tokenizers]
tiny = "{tokenizer}"

[document-index]
directory = "index"
embedding-provider = "embeddings"
embedding-model = "{model}"
"""
PLACES = {"namespace": "dev", "collection": "animals", "index": "sections", "document": "fox"}


@dataclass
class Both:
    component: KernelProcess
    source: DevProcess
    """Skills of pharia_kernel_sdk."""
    published: DevProcess
    """Skills of pharia_skill."""

    async def run(self, skill: str, input: Any) -> Any:
        """The answer of both."""
        path = f"/v1/skills/dev/{skill}/run"
        return await self._same(skill, path, json.dumps(input).encode())

    async def stream(self, skill: str, input: Any) -> Any:
        path = f"/v1/skills/dev/{skill}/message-stream"
        return await self._same(skill, path, json.dumps(input).encode())

    async def raw(self, skill: str, body: bytes) -> Any:
        return await self._same(skill, f"/v1/skills/dev/{skill}/run", body)

    async def metadata(self, skill: str) -> Any:
        return await self._same(skill, f"/v1/skills/dev/{skill}/metadata", None)

    async def _same(self, skill: str, path: str, body: bytes | None) -> Any:
        developed = self.published if skill in PUBLISHED else self.source
        component, source = [
            _told(await _ask(kernel, path, body)) for kernel in (self.component, developed)
        ]
        assert source == same(component)
        return source


async def _ask(kernel: KernelProcess, path: str, body: bytes | None) -> httpx.Response:
    headers = CALLER | {"Content-Type": "application/json"}
    method = "GET" if body is None else "POST"
    return await kernel.client.request(method, path, content=body, headers=headers)


def _told(response: httpx.Response) -> list[Any]:
    """All that callers get, but for what is different each time."""
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [_without_ids(line) for line in response.text.splitlines()]
        return [response.status_code, response.headers["content-type"], lines]
    body = response.json()
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if key not in ("run_id", "trace_id")}
    return [response.status_code, response.headers["content-type"], body]


def _without_ids(line: str) -> Any:
    if not line.startswith("data: "):
        return line
    data = json.loads(line.removeprefix("data: "))
    return {key: value for key, value in data.items() if key not in ("run_id", "trace_id")}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def both(llm: Llm) -> AsyncGenerator[Both, None]:
    components = sdk_components()
    async with running_aleph_alpha() as aleph, embedding_server.running_embedding_server() as url:
        settings = {
            "inference_url": aleph.url,
            "openai_inference__url": llm.url,
            "openai_inference__token": llm.token,
        }
        with (
            temporary_home(namespaces={"dev": ("add", "subtract")}, engines=1, **settings) as home,
            author() as own,
            author() as published,
        ):
            home.deploy_all({name: components.component(name) for name in OWN})
            home.deploy_all(build(PUBLISHED, report=lambda _: None))
            with (home.folder / "config.toml").open("a") as config:
                config.write(_backends(url, home.folder))
            for folder in (own.folder, published.folder):
                shutil.copyfile(home.folder / "config.toml", folder / "config.toml")
            files = copy_skills(own, *OWN)
            for name in PUBLISHED:
                file = Path(__file__).parents[1] / "skills" / name / f"{name}.py"
                shutil.copyfile(file, published.folder / file.name)
            python = ("--python", str(published_python()))
            sources = [f"{name}.py" for name in PUBLISHED]
            async with (
                home.running() as component,
                own.serving(*files, **settings) as source,
                published.serving(*sources, *python, **settings) as other,
            ):
                for kernel in (component, source, other):
                    await fill_index(kernel)
                yield Both(component, source, other)


def _backends(embeddings: str, folder: Path) -> str:
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(tiny_json())
    return BACKENDS.format(
        embeddings=embeddings,
        token=embedding_server.TOKEN,
        model=embedding_server.MODEL,
        tokenizer=tokenizer,
    )


# --- pharia_kernel_sdk ----------------------------------------------------------------------------


@pytest.mark.parametrize("input", [{"name": "Zoë"}, {}, {"name": ""}, {"name": 3}, [], None])
async def test_functions(both: Both, input: Any) -> None:
    status, _, body = await both.run("greet", input)
    assert (status, body) == (200, "Hello Zoë") if input == {"name": "Zoë"} else status == 400


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"', b'{"name": "\\ud800"}'])
async def test_bodies_that_are_no_input(both: Both, body: bytes) -> None:
    await both.raw("greet", body)


@pytest.mark.parametrize("skill", [*OWN, *PUBLISHED])
async def test_metadata(both: Both, skill: str) -> None:
    status, _, metadata = await both.metadata(skill)
    assert (status, metadata["skill_type"]) == (
        200,
        "message_stream" if skill in ("story", "stream_chat") else "function",
    )
    # Of streams, only this SDK's components say more than that they are streams.
    assert (metadata["input_schema"] is None) == (skill == "stream_chat")


async def test_descriptions_in_the_listing(both: Both) -> None:
    told: dict[str, set[str | None]] = {}
    for kernel in (both.component, both.source, both.published):
        for skill in (await kernel.client.get("/v1/skills?detail=true", headers=CALLER)).json():
            told.setdefault(skill["path"], set()).add(skill["description"])
    assert told["dev/story"] == {"Tells a story."}
    assert told["dev/greet"] == {"Greets a person by name."}
    assert told["dev/stream_chat"] == {None}


@pytest.mark.parametrize("input", ["deep", "exit", "wrong", "lazy"])
async def test_failures_and_function_level_imports(both: Both, input: str) -> None:
    status, _, body = await both.run("faulty", input)
    assert status == (200 if input == "lazy" else 400)
    if input == "deep":
        assert "lib/deep.py:2 in fail" in body["detail"]


@pytest.mark.parametrize(
    ("skill", "input", "line"),
    [
        ("faulty", "deep", "raise KeyError(text)"),
        ("story", {"mode": "broken"}, 'raise RuntimeError("the plot is lost")'),
    ],
)
async def test_the_whole_traceback_is_with_the_run(
    both: Both, skill: str, input: Any, line: str
) -> None:
    for kernel in (both.component, both.source):
        run = await (kernel.stream if skill == "story" else kernel.run)(skill, input)
        assert run is not None
        lines = await _log_of_the_last_run(kernel, skill)
        assert lines[0] == "Traceback (most recent call last):"
        assert any("/pharia_kernel_sdk/guest/running.py" in text for text in lines)
        assert f"    {line}" in lines


async def _log_of_the_last_run(kernel: KernelProcess, skill: str) -> list[str]:
    """As the console shows it."""
    runs = (await kernel.client.get("/v1/runs")).json()
    last = next(run for run in runs if run["skill"] == f"dev/{skill}")
    detail = (await kernel.client.get(f"/v1/runs/{last['id']}")).json()
    return [log["text"] for log in detail["logs"]]


@pytest.mark.parametrize(
    ("call", "model"),
    [
        ("complete", "tiny"),
        ("completion_stream", "luminous"),
        ("structured", "tiny"),
        ("chunk", "tiny"),
        ("select_language", ""),
        ("tools", ""),
        ("explain", "luminous"),
        ("search", ""),
        ("wrong_type", "tiny"),
    ],
)
async def test_system_calls(both: Both, call: str, model: str) -> None:
    await both.run("tour", {"call": call, "model": model})


@pytest.mark.parametrize("call", ["chat", "chat_stream", "tool_calling"])
async def test_answers_that_are_never_the_same(both: Both, call: str) -> None:
    input = {"call": call, "model": "tiny"}
    answers = [await kernel.run("tour", input) for kernel in (both.component, both.source)]
    assert {answer.status_code for answer in answers} == {200}
    assert _shape(answers[0].json()) == _shape(answers[1].json())


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    return [_shape(item) for item in value] if isinstance(value, list) else type(value)


@pytest.mark.parametrize("mode", ["fixed", "broken", "disorder", "nonsense"])
async def test_streams(both: Both, mode: str) -> None:
    await both.stream("story", {"mode": mode})


async def test_a_stream_forwards_a_model(both: Both) -> None:
    stream = await both.source.stream("story", {"mode": "chat", "model": "tiny"})
    assert stream.end == {"finish_reason": "length"}


@pytest.mark.parametrize("skill", ["greet", "story"])
async def test_the_wrong_route(both: Both, skill: str) -> None:
    ask = both.stream if skill == "greet" else both.run
    status, _, body = await ask(skill, {})
    assert (status, body["code"]) == (409, "wrong_skill_kind")


# --- pharia_skill ---------------------------------------------------------------------------------


async def test_tools_of_the_published_sdk(both: Both) -> None:
    status, _, body = await both.run("tool_user", {"a": 3, "b": 4})
    assert (status, body["tools"], body["results"][:2]) == (200, ["add", "subtract"], ["7", "-1"])


@pytest.mark.parametrize(
    ("steps", "model"),
    [
        (["complete", "chunk"], "tiny"),
        (["explain", "complete_echo", "completion_stream"], "luminous"),
        (["select_language", "list_tools", "invoke_tool"], ""),
        (["search", "documents", "document_metadata"], ""),
    ],
)
async def test_system_calls_of_the_published_sdk(both: Both, steps: list[str], model: str) -> None:
    input = {"steps": steps, "model": model, **PLACES}
    status, _, body = await both.run("csi_tour", input)
    assert (status, len(body)) == (200, len(steps))


async def test_a_stream_of_the_published_sdk(both: Both) -> None:
    input = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 4,
    }
    stream = await both.published.stream("stream_chat", input)
    assert stream.end["completion_tokens"] == 4
    assert stream.text
