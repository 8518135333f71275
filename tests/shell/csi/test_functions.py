"""``/csi/v1`` and ``/csi/v2``: what calls reach the CSI, and what comes back."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from msgspec import Raw

from pharia_kernel.csi import types
from pharia_kernel.csi.service import CsiService
from pharia_kernel.csi.types import CallContext
from pharia_kernel.drivers.tools.toolbox import Toolbox
from tests.shell.csi.support import (
    CHAT,
    COMPLETION,
    DOCUMENT,
    EXPLANATION,
    LANGUAGE,
    LOGPROBS_JSON,
    PATH,
    SEARCH,
    TEXT_CHUNK,
    TOOL_CALLS,
    RecordingCsi,
)
from tests.shell.support import TRACEPARENT, MemorySkills, app_of, running

USAGE = {"prompt": 12, "completion": 3}
ASKED_COMPLETION = types.CompletionRequest(
    "m",
    "An apple a day",
    types.CompletionParams(
        return_special_tokens=True,
        max_tokens=16,
        top_k=3,
        stop=["."],
        logprobs=types.TopLogprobs(2),
        echo=True,
    ),
)
ASKED_CHAT = types.ChatRequest(
    "m",
    [
        types.Message(role="system", content="Be brief."),
        types.Message(role="user", content="Capital of France?"),
    ],
    types.ChatParams(max_tokens=64, temperature=0.5, logprobs="sampled"),
)
ASKED_SEARCH = types.SearchRequest(
    index_path=types.IndexPath("kernel", "docs", "asymmetric"),
    query="skill",
    max_results=2,
    min_score=0.5,
    filters=[
        types.SearchFilter(
            with_=[types.FilterItem(types.MetadataCondition(field="year", greater_than=2023))]
        ),
        types.SearchFilter(
            without=[types.FilterItem(types.MetadataCondition(field="a[].b", is_null=True))]
        ),
        types.SearchFilter(
            with_one_of=[types.FilterItem(types.MetadataCondition(field="draft", equal_to=False))]
        ),
    ],
)
PARAMS = types.ChunkParams("m", 4, 1)

SAME_IN_BOTH: dict[str, tuple[Any, str, Any, Any]] = {
    "chunk": (
        [TEXT_CHUNK],
        "chunk",
        [types.ChunkRequest("One. Two.", PARAMS, False)],
        [["One.", "Two."]],
    ),
    "chunk_with_offsets": (
        [{**TEXT_CHUNK, "character_offsets": True}, {**TEXT_CHUNK, "character_offsets": False}],
        "chunk",
        [
            types.ChunkRequest("One. Two.", PARAMS, True),
            types.ChunkRequest("One. Two.", PARAMS, False),
        ],
        [
            [
                {"text": "One.", "byte_offset": 0, "character_offset": 0},
                {"text": "Two.", "byte_offset": 5, "character_offset": 5},
            ],
            [
                {"text": "One.", "byte_offset": 0, "character_offset": None},
                {"text": "Two.", "byte_offset": 5, "character_offset": None},
            ],
        ],
    ),
    "complete": (
        [COMPLETION, COMPLETION],
        "complete",
        [ASKED_COMPLETION, ASKED_COMPLETION],
        [
            {
                "text": " keeps",
                "finish_reason": "length",
                "logprobs": LOGPROBS_JSON,
                "usage": USAGE,
            }
        ]
        * 2,
    ),
    "documents": (
        [PATH],
        "documents",
        [DOCUMENT],
        [
            {
                "path": PATH,
                "contents": [{"modality": "text", "text": "A skill."}, {"modality": "image"}],
                "metadata": {"year": 2024},
            }
        ],
    ),
    "document_metadata": (
        [PATH, {**PATH, "name": "other"}],
        "document_metadata",
        [DOCUMENT, types.DocumentPath("kernel", "docs", "other")],
        [{"year": 2024}, None],
    ),
    "explain": (
        [EXPLANATION],
        "explain",
        [types.ExplanationRequest("p", "t", "m", "word")],
        [[{"start": 3, "length": 5, "score": 0.75}]],
    ),
    "invoke_tool": (
        TOOL_CALLS,
        "invoke_tool",
        (
            "dev",
            [
                types.InvokeRequest(
                    "add",
                    [types.Argument("a", Raw(b"1")), types.Argument("b", Raw(b'{"c":[]}'))],
                ),
                types.InvokeRequest("saboteur", []),
            ],
        ),
        [[{"type": "text", "text": "3"}], "Out of cheese."],
    ),
    "list_tools": (
        {"namespace": "dev"},
        "list_tools",
        "dev",
        [{"name": "add", "description": "Add two numbers", "input_schema": {"type": "object"}}],
    ),
    "search": (
        [SEARCH],
        "search",
        [ASKED_SEARCH],
        [
            [
                {
                    "document_path": PATH,
                    "content": "A skill.",
                    "score": 0.875,
                    "start": {"item": 0, "position": 0},
                    "end": {"item": 0, "position": 7},
                }
            ]
        ],
    ),
    "select_language": (
        [LANGUAGE, {"text": "?", "languages": []}],
        "select_language",
        [
            types.SelectLanguageRequest("Ein Apfel", ["eng", "deu"]),
            types.SelectLanguageRequest("?", []),
        ],
        ["deu", None],
    ),
}
BATCHES = [name for name in SAME_IN_BOTH if name not in ("invoke_tool", "list_tools")]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("function", SAME_IN_BOTH)
async def test_functions_that_are_the_same_in_both_versions(
    client: httpx.AsyncClient, csi: RecordingCsi, function: str, version: str
) -> None:
    body, name, asked, answer = SAME_IN_BOTH[function]
    response = await client.post(f"/csi/{version}/{function}", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == answer
    ((called, requests, _),) = csi.calls
    assert called == name
    assert requests == asked


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("function", [*BATCHES, "chat"])
async def test_empty_batch(client: httpx.AsyncClient, version: str, function: str) -> None:
    response = await client.post(f"/csi/{version}/{function}", json=[])
    assert response.json() == []


async def test_chat_v1(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    response = await client.post("/csi/v1/chat", json=[CHAT])
    # Bytes: the order of the members is part of the contract.
    assert response.content.decode() == (
        '[{"message":{"role":"assistant","content":"Paris.","tool_call_id":null,"tool_calls":null},'
        '"finish_reason":"stop","logprobs":[{"sampled":{"token":[255,0],"logprob":null},'
        '"top":[{"token":[97],"logprob":-0.5},{"token":[],"logprob":-1.0}]}],'
        '"usage":{"prompt":12,"completion":3}}]'
    )
    assert csi.split_reasoning == [False]
    assert csi.calls[0][1] == [ASKED_CHAT]


async def test_chat_v2(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    response = await client.post("/csi/v2/chat", json=[CHAT])
    (answer,) = response.json()
    assert list(answer.pop("message").items()) == [
        ("role", "assistant"),
        ("content", "Paris."),
        ("reasoning_content", "hm"),
        ("tool_call_id", None),
        ("tool_calls", None),
    ]
    assert answer == {"finish_reason": "stop", "logprobs": LOGPROBS_JSON, "usage": USAGE}
    assert csi.split_reasoning == [True]
    assert csi.calls[0][1] == [ASKED_CHAT]


async def test_both_versions_answer_chats_alike_but_for_reasoning(
    client: httpx.AsyncClient,
) -> None:
    body = [{**CHAT, "params": {"logprobs": "no", "tools": [{"name": "add"}]}}]
    (first,) = (await client.post("/csi/v1/chat", json=body)).json()
    (second,) = (await client.post("/csi/v2/chat", json=body)).json()
    assert second["message"].pop("reasoning_content") == "hm"
    assert first == second
    assert first["message"]["tool_calls"] == [{"id": "1", "name": "add", "arguments": "{}"}]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_chat_with_everything(
    client: httpx.AsyncClient, csi: RecordingCsi, version: str
) -> None:
    params = {
        "max_tokens": 1,
        "max_completion_tokens": 2,
        "temperature": 0,
        "top_p": 0.5,
        "frequency_penalty": -1.5,
        "presence_penalty": 1,
        "logprobs": {"top": 255},
        "tools": [
            {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
            {"name": "g", "parameters": None},
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "response_format": "json_object",
        "reasoning_effort": "minimal",
    }
    messages = [
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "1", "name": "f", "arguments": "{"}],
        },
        {"role": "tool", "content": "3", "tool_call_id": "1"},
        {"role": "Developer", "content": ""},
        {"role": "assistant"},
    ]
    body = [{"model": "m", "messages": messages, "params": params}]
    response = await client.post(f"/csi/{version}/chat", json=body)
    assert response.status_code == 200, response.text
    expected = types.ChatRequest(
        "m",
        [
            types.Message(
                role="assistant",
                reasoning_content="hm",
                tool_calls=[types.ToolCall("1", "f", "{")],
            ),
            types.Message(role="tool", content="3", tool_call_id="1"),
            types.Message(role="Developer", content=""),
            types.Message(role="assistant"),
        ],
        types.ChatParams(
            max_tokens=1,
            max_completion_tokens=2,
            temperature=0,
            top_p=0.5,
            frequency_penalty=-1.5,
            presence_penalty=1,
            logprobs=types.TopLogprobs(255),
            tools=[
                types.Function(
                    name="f",
                    description="d",
                    parameters=Raw(b'{"type":"object","properties":{}}'),
                    strict=True,
                ),
                types.Function(name="g"),
            ],
            tool_choice="required",
            parallel_tool_calls=False,
            response_format="json_object",
            reasoning_effort="minimal",
        ),
    )
    assert csi.calls[0][1] == [expected]


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ("none", "none"),
        ("auto", "auto"),
        ({"named": "f"}, types.NamedTool("f")),
        ({"name": "f"}, types.NamedTool("f")),
        (None, None),
    ],
)
async def test_tool_choice(
    client: httpx.AsyncClient, csi: RecordingCsi, sent: Any, asked: Any
) -> None:
    body = [{**CHAT, "params": {"logprobs": "no", "tool_choice": sent}}]
    assert (await client.post("/csi/v1/chat", json=body)).status_code == 200
    assert csi.calls[0][1][0].params.tool_choice == asked


SCHEMA = {"name": "city", "description": "d", "schema": {"type": "string"}, "strict": True}


@pytest.mark.parametrize("sent", [{"json_schema": SCHEMA}, SCHEMA])
async def test_schema_as_response_format(
    client: httpx.AsyncClient, csi: RecordingCsi, sent: Any
) -> None:
    body = [{**CHAT, "params": {"logprobs": "no", "response_format": sent}}]
    assert (await client.post("/csi/v1/chat", json=body)).status_code == 200
    asked = csi.calls[0][1][0].params.response_format
    assert asked == types.JsonSchemaFormat(
        types.JsonSchema(
            name="city", description="d", schema=Raw(b'{"type":"string"}'), strict=True
        )
    )


@pytest.mark.parametrize("schema", [{}, {"schema": None}])
async def test_response_format_without_schema(
    client: httpx.AsyncClient, csi: RecordingCsi, schema: Any
) -> None:
    wanted = {"json_schema": {"name": "city", **schema}}
    body = [{**CHAT, "params": {"logprobs": "no", "response_format": wanted}}]
    assert (await client.post("/csi/v2/chat", json=body)).status_code == 200
    asked = csi.calls[0][1][0].params.response_format
    assert asked == types.JsonSchemaFormat(types.JsonSchema(name="city"))


async def test_what_a_driver_learns_of_the_caller(
    client: httpx.AsyncClient, csi: RecordingCsi
) -> None:
    headers = {"Authorization": "Bearer hunter2", "traceparent": TRACEPARENT}
    for _ in range(2):
        await client.post("/csi/v1/chat", json=[CHAT], headers=headers)
    first, second = (context for _, _, context in csi.calls)
    assert first.run_id and second.run_id
    assert first.run_id != second.run_id
    assert first == CallContext(
        token="hunter2",
        run_id=first.run_id,
        deadline=first.deadline,
        trace_headers={"traceparent": TRACEPARENT},
    )


async def test_calls_reach_the_real_service() -> None:
    toolbox = Toolbox()
    toolbox.set_native("dev", ["add", "saboteur"])
    csi = CsiService(None, toolbox)
    body = changed_arguments(TOOL_CALLS, [{"name": "a", "value": 1}, {"name": "b", "value": 2}])
    async with running(app_of(MemorySkills(), csi=csi)) as client:
        called = await client.post("/csi/v2/invoke_tool", json=body)
        listed = await client.post("/csi/v2/list_tools", json={"namespace": "dev"})
        unknown = await client.post("/csi/v1/list_tools", json={"namespace": "other"})
        chat = await client.post("/csi/v1/chat", json=[CHAT])
        stream = await client.post("/csi/v2/chat_stream", json=CHAT)
    assert called.json() == [[{"type": "text", "text": "3"}], "Out of cheese."]
    assert [tool["name"] for tool in listed.json()] == ["add", "saboteur"]
    assert unknown.status_code == 404
    for response in (chat, stream):
        assert response.status_code == 503
        assert response.json()["code"] == "not_configured"


def changed_arguments(body: dict[str, Any], arguments: list[Any]) -> dict[str, Any]:
    first, *others = body["requests"]
    return {**body, "requests": [{**first, "arguments": arguments}, *others]}
