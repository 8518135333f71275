"""The published SDK as a client: ``pharia-skill`` 0.20.0, unchanged, from its own environment."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from pharia_kernel.csi import types
from pharia_kernel.errors import ModelNotFound, UpstreamTimeout
from tests.shell.csi.support import DOCUMENT, RecordingCsi, emits
from tests.shell.support import MemorySkills, app_of, listening
from tools import build_skills

SCRIPT = Path(__file__).with_name("dev_csi.py")
PATIENCE = 120.0
"""Seconds for the script, whose imports alone take some on a busy machine."""
USAGE = {"prompt": 12, "completion": 3}
LOGPROBS = [
    {
        "sampled": {"token": [255, 0], "logprob": math.nan},
        "top": [{"token": [97], "logprob": -0.5}, {"token": [], "logprob": -1.0}],
    }
]
NO_MODEL = ModelNotFound("There is no model `no-such-model`.")


class Backend(RecordingCsi):
    """Knows no model called `no-such-model`, and breaks off streams of `breaks`."""

    async def chat(
        self, requests: Any, context: types.CallContext, *, split_reasoning: bool
    ) -> list[types.ChatResponse]:
        if requests[0].model == "no-such-model":
            raise NO_MODEL
        return await super().chat(requests, context, split_reasoning=split_reasoning)

    def chat_stream(
        self, request: types.ChatRequest, context: types.CallContext, *, split_reasoning: bool
    ) -> AsyncGenerator[types.ChatEvent, None]:
        if request.model == "no-such-model":
            return emits(then=NO_MODEL)
        return super().chat_stream(request, context, split_reasoning=split_reasoning)

    def completion_stream(
        self, request: types.CompletionRequest, context: types.CallContext
    ) -> AsyncGenerator[types.CompletionEvent, None]:
        if request.model == "breaks":
            return emits(types.CompletionAppend("a", []), then=UpstreamTimeout("Silence."))
        return super().completion_stream(request, context)


@pytest.fixture(scope="module")
def sdk_python() -> Path:
    toolchain = build_skills.prepare("pharia-skill")
    assert isinstance(toolchain, build_skills.Pinned)
    return toolchain.environment / "bin" / "python"


async def run_script(python: Path, port: int, folder: Path) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        python,
        SCRIPT,
        cwd=folder,  # the SDK reads a `.env` file in the working directory
        env={
            "PATH": os.environ["PATH"],
            "PHARIA_KERNEL_ADDRESS": f"http://127.0.0.1:{port}",
            "PHARIA_AI_TOKEN": "hunter2",
            "OTEL_SDK_DISABLED": "true",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    answers: dict[str, Any] = json.loads(out)
    return answers


async def test_every_call_of_the_published_sdk(sdk_python: Path, tmp_path: Path) -> None:
    csi = Backend()
    async with listening(app_of(MemorySkills(), csi=csi)) as port:
        answers = await run_script(sdk_python, port, tmp_path)
    check_answers(answers)
    check_calls(csi)


def check_answers(answers: dict[str, Any]) -> None:
    for name in ("failed_chat", "failed_stream"):
        assert "Status Code: 404" in answers[name]
        assert "There is no model `no-such-model`." in answers.pop(name)
    assert "Silence." in answers.pop("broken_stream")
    path = {"namespace": "kernel", "collection": "docs", "name": "intro"}
    contents = [{"text": "A skill.", "modality": "text"}, {"modality": "image"}]
    start, end = {"item": 0, "position": 0}, {"item": 0, "position": 7}
    hit = {"document_path": path, "content": "A skill.", "score": 0.875, "start": start, "end": end}
    schema = {"type": "object"}
    expected = {
        "complete": {
            "text": " keeps",
            "finish_reason": "length",
            "logprobs": LOGPROBS,
            "usage": USAGE,
        },
        "chat": {
            "message": {"role": "assistant", "content": "Paris."},
            "finish_reason": "stop",
            "logprobs": LOGPROBS,
            "usage": USAGE,
        },
        "chunk": [
            {"text": "One.", "character_offset": 0},
            {"text": "Two.", "character_offset": 5},
        ],
        "select_language": "deu",
        "explain": [{"start": 3, "length": 5, "score": 0.75}],
        "search": [hit],
        "document": {"path": path, "contents": contents, "metadata": {"year": 2024}},
        "document_metadata": {"year": 2024},
        "list_tools": [{"name": "add", "description": "Add two numbers", "input_schema": schema}],
        "invoke_tool": {"contents": ["3"]},
        "invoke_tool_concurrent": [{"contents": ["3"]}, {"message": "Out of cheese."}],
        "completion_stream": [
            {"text": " ke", "logprobs": LOGPROBS},
            {"text": "eps", "logprobs": []},
        ],
        "completion_finish_reason": "length",
        "completion_usage": USAGE,
        "chat_role": "assistant",
        "chat_stream": [
            {"content": "Pa", "logprobs": LOGPROBS},
            {"content": "ris.", "logprobs": []},
        ],
        "chat_finish_reason": "stop",
        "chat_usage": USAGE,
    }
    assert json.dumps(answers, sort_keys=True) == json.dumps(expected, sort_keys=True)


def check_calls(csi: RecordingCsi) -> None:
    assert {context.token for _, _, context in csi.calls} == {"hunter2"}
    asked = {name: requests for name, requests, _ in csi.calls}
    completion = types.CompletionRequest(
        "m",
        "An apple a day",
        types.CompletionParams(
            return_special_tokens=True, max_tokens=16, stop=["."], logprobs="sampled"
        ),
    )
    chat = types.ChatRequest(
        "m",
        [
            types.Message(role="system", content="Be brief."),
            types.Message(role="user", content="Capital of France?"),
        ],
        types.ChatParams(max_tokens=64, logprobs=types.TopLogprobs(2)),
    )
    assert asked["complete"] == [completion]
    assert asked["completion_stream"] == completion
    assert asked["chat"] == [chat]
    assert asked["chat_stream"] == chat
    assert asked["chunk"] == [types.ChunkRequest("One. Two.", types.ChunkParams("m", 4, 1), True)]
    assert asked["documents"] == asked["document_metadata"] == [DOCUMENT]
    (search,) = asked["search"]
    assert search.filters == [
        types.SearchFilter(
            with_=[types.FilterItem(types.MetadataCondition(field="year", greater_than=2023))]
        ),
        types.SearchFilter(
            without=[types.FilterItem(types.MetadataCondition(field="a[].b", is_null=True))]
        ),
        types.SearchFilter(
            with_one_of=[types.FilterItem(types.MetadataCondition(field="draft", equal_to="no"))]
        ),
    ]
    namespace, tools = asked["invoke_tool"]
    assert namespace == asked["list_tools"] == "dev"
    assert [tool.name for tool in tools] == ["add", "saboteur"]
