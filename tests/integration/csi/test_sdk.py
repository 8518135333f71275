"""The published SDK, ``pharia-skill`` 0.20.0, unchanged: as a client, and inside of a skill."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.integration.csi.support import CALLER, CARD, FOX, FOX_METADATA, FOX_TEXT, World, same
from tools import build_skills

SCRIPT = Path(__file__).with_name("dev_csi.py")
PATIENCE = 90.0
"""Seconds for the script, whose imports alone take some on a busy machine."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def answers(world: World, tmp_path_factory: Any) -> dict[str, Any]:
    """What ``DevCsi`` got for all its calls."""
    toolchain = build_skills.prepare("pharia-skill")
    assert isinstance(toolchain, build_skills.Pinned)
    process = await asyncio.create_subprocess_exec(
        toolchain.environment / "bin" / "python",
        SCRIPT,
        cwd=tmp_path_factory.mktemp("sdk"),  # the SDK reads a `.env` file there
        env={
            "PATH": os.environ["PATH"],
            "PHARIA_KERNEL_ADDRESS": world.kernel.url.rstrip("/"),
            "PHARIA_AI_TOKEN": CALLER["Authorization"].removeprefix("Bearer "),
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


async def test_chats(answers: dict[str, Any]) -> None:
    chat, stream = answers["chat"], answers["chat_stream"]
    assert chat["message"]["role"] == stream["role"] == "assistant"
    assert chat["usage"]["completion"] == 8
    assert {len(token["top"]) for token in chat["logprobs"]} == {2}
    assert answers["chat_concurrent"] == same([chat, chat])
    assert "".join(stream["texts"]) == chat["message"]["content"]
    assert (stream["finish_reason"], stream["usage"]) == (chat["finish_reason"], chat["usage"])


async def test_completions(answers: dict[str, Any]) -> None:
    complete, stream = answers["complete"], answers["completion_stream"]
    tiny, luminous = answers["complete_concurrent"]
    assert tiny == same(complete)
    assert complete["usage"]["completion"] == 6
    assert "".join(stream["texts"]) == complete["text"]
    assert (stream["finish_reason"], stream["usage"]) == ("length", complete["usage"])
    # The SDK wants special tokens unless told otherwise.
    assert luminous["text"] == " world<|end|>"
    assert answers["luminous_stream"] == {
        "texts": [" wor", "ld"],
        "finish_reason": "stop",
        "usage": {"prompt": 3, "completion": 2},
    }


async def test_explanations(answers: dict[str, Any]) -> None:
    scores = [{"start": 0, "length": len(FOX_TEXT), "score": 0.75}]
    assert answers["explain"] == scores
    assert answers["explain_concurrent"] == [scores, scores]


async def test_texts(answers: dict[str, Any]) -> None:
    assert len(answers["chunk"]) > 1
    for chunk in answers["chunk"]:
        assert FOX_TEXT[chunk["character_offset"] :].startswith(chunk["text"])
    assert answers["chunk_concurrent"] == [[{"text": "short", "character_offset": 0}]] * 2
    assert answers["select_language"] == "eng"
    assert answers["select_language_concurrent"] == ["deu", "deu"]


async def test_documents(answers: dict[str, Any]) -> None:
    (hit,) = answers["search"]
    assert (hit["document_path"], hit["content"]) == (FOX, FOX_TEXT)
    assert hit["end"] == {"item": 0, "position": len(FOX_TEXT) - 1}
    assert answers["search_concurrent"] == same([[hit], [hit]])
    document = answers["document"]
    assert (document["path"], document["metadata"]) == (FOX, FOX_METADATA)
    assert [part["modality"] for part in answers["documents"][1]["contents"]] == ["image", "text"]
    assert [d["path"] for d in answers["documents"]] == [FOX, CARD]
    assert answers["document_metadata"] == FOX_METADATA
    assert answers["documents_metadata"] == [None, FOX_METADATA]


async def test_tools(answers: dict[str, Any]) -> None:
    names = "add crowd echo fail hang meet saboteur structured subtract"
    assert answers["list_tools"] == names.split()
    assert answers["invoke_tool"] == {"contents": ["42"]}
    echoed, failed = answers["invoke_tool_concurrent"]
    assert json.loads(echoed["contents"][0]) == {"x": ["å"]}
    assert failed == {"message": "No cheese.\n\nTry the shop."}


async def test_failures(answers: dict[str, Any]) -> None:
    assert "Status Code: 404" in answers["missing_document"]
    assert "Status Code: 422" in answers["failed_stream"]
    assert "/params/max_tokens" in answers["failed_stream"]


async def test_a_skill_of_the_sdk_gets_the_same(world: World, answers: dict[str, Any]) -> None:
    """The same SDK, with the kernel's system calls instead of HTTP below."""
    places = {"namespace": "dev", "collection": "animals", "index": "sections", "document": "fox"}
    steps = {
        "tiny": ["chat_stream", "chat_stream_unread", "completion_stream", "chunk", "complete"],
        "luminous": ["explain", "complete_echo", "completion_stream"],
    }
    results: dict[str, Any] = {}
    for model, asked in steps.items():
        input = {"steps": asked, "model": model, **places}
        response = await world.kernel.run("csi_tour", input, headers=CALLER)
        assert response.status_code == 200, response.text
        results |= {f"{model} {s}": r for s, r in zip(asked, response.json(), strict=True)}
    assert results["tiny chat_stream"]["usage"]["completion"] == 8
    assert results["tiny chat_stream_unread"] == {"role": "assistant"}
    assert results["luminous explain"][0]["score"] == answers["explain"][0]["score"]
    assert results["luminous completion_stream"]["texts"] == [" wor", "ld"]
    steps_without_model = ["select_language", "search", "documents", "document_metadata"]
    input = {"steps": [*steps_without_model, "list_tools", "invoke_tool"], **places}
    response = await world.kernel.run("csi_tour", input, headers=CALLER)
    language, hits, documents, metadata, tools, three = response.json()
    assert language == "eng"
    assert [hit["document_path"] for hit in hits] == [FOX]
    assert documents == same([answers["document"]])
    assert metadata == FOX_METADATA
    assert [tool["name"] for tool in tools] == answers["list_tools"]
    assert three["contents"] == ["3"]
