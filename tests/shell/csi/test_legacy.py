"""``POST /csi``."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pharia_kernel import errors
from pharia_kernel.csi import types
from pharia_kernel.shell.csi import legacy
from tests.shell.csi.support import (
    DOCUMENT,
    EXPLANATION,
    LANGUAGE,
    LOGPROBS_JSON,
    PATH,
    SEARCH,
    TEXT_CHUNK,
    RecordingCsi,
    raises,
)
from tests.shell.csi.test_functions import ASKED_SEARCH, PARAMS, USAGE

MESSAGES = [
    {"role": "User", "content": "1+1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "Sure?"},
]
ASKED_MESSAGES = [types.Message(role=m["role"], content=m["content"]) for m in MESSAGES]
PLAIN_CHAT = {"model": "m", "messages": MESSAGES, "params": {"max_tokens": 3}}
ASKED_CHAT = types.ChatRequest("m", ASKED_MESSAGES, types.ChatParams(max_tokens=3))
ANSWER = {"role": "assistant", "content": "Paris."}
PLAIN_COMPLETION = {"model": "m", "prompt": "p", "params": {"stop": [], "top_k": 2}}
ASKED_COMPLETION = types.CompletionRequest("m", "p", types.CompletionParams(top_k=2))
BARE_COMPLETION = {"text": " keeps", "finish_reason": "length"}
TWO_LANGUAGES = {"text": "Ein Apfel", "languages": ["eng", "deu"]}
PLAIN_SEARCH = {name: value for name, value in SEARCH.items() if name != "filters"}
ASKED_PLAIN_SEARCH = types.SearchRequest(
    index_path=types.IndexPath("kernel", "docs", "asymmetric"),
    query="skill",
    max_results=2,
    min_score=0.5,
)
DOCUMENT_JSON = {
    "path": PATH,
    "contents": [{"modality": "text", "text": "A skill."}, {"modality": "image"}],
    "metadata": {"year": 2024},
}
FOUND = {"document_path": PATH, "content": "A skill.", "score": 0.875}
CURSORS = {"start": {"item": 0, "position": 0}, "end": {"item": 0, "position": 7}}

Case = tuple[dict[str, Any], str, Any, Any]
"""Members beside version and function; the call of the CSI, its requests; the answer."""

CALLS_02: dict[str, Case] = {
    "complete": (PLAIN_COMPLETION, "complete", [ASKED_COMPLETION], BARE_COMPLETION),
    "complete_all": (
        {"requests": [PLAIN_COMPLETION, PLAIN_COMPLETION]},
        "complete",
        [ASKED_COMPLETION, ASKED_COMPLETION],
        [BARE_COMPLETION, BARE_COMPLETION],
    ),
    "chat": (PLAIN_CHAT, "chat", [ASKED_CHAT], {"message": ANSWER, "finish_reason": "stop"}),
    "chunk": (
        {"text": "One. Two.", "params": {"model": "m", "max_tokens": 4}},
        "chunk",
        [types.ChunkRequest("One. Two.", types.ChunkParams("m", 4, 0), False)],
        ["One.", "Two."],
    ),
    "select_language": (
        TWO_LANGUAGES,
        "select_language",
        [types.SelectLanguageRequest("Ein Apfel", ["eng", "deu"])],
        "deu",
    ),
    "search": (PLAIN_SEARCH, "search", [ASKED_PLAIN_SEARCH], [FOUND]),
    "documents": ({"requests": [PATH]}, "documents", [DOCUMENT], [DOCUMENT_JSON]),
    "document_metadata": (
        {"document_path": PATH},
        "document_metadata",
        [DOCUMENT],
        {"year": 2024},
    ),
}
CALLS_03: dict[str, Case] = {
    "chat": (
        {"requests": [{**PLAIN_CHAT, "params": {"max_tokens": 3, "logprobs": "no"}}]},
        "chat",
        [ASKED_CHAT],
        [{"message": ANSWER, "finish_reason": "stop", "logprobs": LOGPROBS_JSON, "usage": USAGE}],
    ),
    "chunk": (
        {"requests": [TEXT_CHUNK]},
        "chunk",
        [types.ChunkRequest("One. Two.", PARAMS, False)],
        [["One.", "Two."]],
    ),
    "chunk_with_offsets": (
        {"requests": [{**TEXT_CHUNK, "character_offsets": True}]},
        "chunk",
        [types.ChunkRequest("One. Two.", PARAMS, True)],
        [
            [
                {"text": "One.", "byte_offset": 0, "character_offset": 0},
                {"text": "Two.", "byte_offset": 5, "character_offset": 5},
            ]
        ],
    ),
    "complete": (
        {"requests": [PLAIN_COMPLETION]},
        "complete",
        [ASKED_COMPLETION],
        [{**BARE_COMPLETION, "logprobs": LOGPROBS_JSON, "usage": USAGE}],
    ),
    "documents": ({"requests": [PATH]}, "documents", [DOCUMENT], [DOCUMENT_JSON]),
    "document_metadata": (
        {"requests": [PATH]},
        "document_metadata",
        [DOCUMENT],
        [{"year": 2024}],
    ),
    "explain": (
        {"requests": [EXPLANATION]},
        "explain",
        [types.ExplanationRequest("p", "t", "m", "word")],
        [[{"start": 3, "length": 5, "score": 0.75}]],
    ),
    "search": ({"requests": [SEARCH]}, "search", [ASKED_SEARCH], [[{**FOUND, **CURSORS}]]),
    "select_language": (
        {"requests": [LANGUAGE]},
        "select_language",
        [types.SelectLanguageRequest("Ein Apfel", ["eng", "deu"])],
        ["deu"],
    ),
}
CALLS = [
    pytest.param(version, function, *case, id=f"{version}-{function}")
    for version, calls in (("0.2", CALLS_02), ("0.3", CALLS_03))
    for function, case in calls.items()
]


def test_every_function_is_called() -> None:
    assert {v: set(f) for v, f in legacy.FUNCTIONS.items()} == {
        "0.2": set(CALLS_02),
        "0.3": set(CALLS_03),
    }


@pytest.mark.parametrize(("version", "function", "arguments", "name", "asked", "answer"), CALLS)
async def test_call(
    client: httpx.AsyncClient,
    csi: RecordingCsi,
    version: str,
    function: str,
    arguments: dict[str, Any],
    name: str,
    asked: Any,
    answer: Any,
) -> None:
    body = {"version": version, "function": function, **arguments}
    headers = {"Authorization": "Bearer hunter2"}
    response = await client.post("/csi", json=body, headers=headers)
    assert response.status_code == 200, response.text
    assert response.json() == answer
    ((called, requests, context),) = csi.calls
    assert (called, requests) == (name, asked)
    assert context.token == "hunter2"
    assert csi.split_reasoning == ([False] if name == "chat" else [])


@pytest.mark.parametrize("version", ["0.2", "0.3"])
async def test_chat_answers_in_exactly_these_members(
    client: httpx.AsyncClient, version: str
) -> None:
    body = {"version": version, "function": "chat", **PLAIN_CHAT, "requests": [PLAIN_CHAT]}
    answer = (await client.post("/csi", json=body)).text
    assert '"message":{"role":"assistant","content":"Paris."}' in answer


async def test_failure_has_its_own_status(client: httpx.AsyncClient, csi: RecordingCsi) -> None:
    csi.outcome = raises(errors.ModelNotFound("There is no model `m`."))
    body = {"version": "0.2", "function": "chat", **PLAIN_CHAT}
    response = await client.post("/csi", json=body)
    assert response.status_code == 404
    assert response.json() == errors.ModelNotFound("There is no model `m`.").problem()


NOT_YET = "not supported by this Kernel installation yet"
NO_LONGER = "no longer supported"
REQUIRED = "CSI version is required"


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("0.9.0", NOT_YET),
        ("0.6", NOT_YET),
        ("1.0.0", NOT_YET),
        ("4294967295", NOT_YET),
        (">=1", NOT_YET),
        ("0.1", NO_LONGER),
        ("0.1.7", NO_LONGER),
        ("0", NO_LONGER),
        ("0.*", NO_LONGER),
        ("0.4", "`/csi/v2/FUNCTION`"),
        ("0.5", "`/csi/v2/FUNCTION`"),
        ("0.5.0", "`/csi/v2/FUNCTION`"),
        ("0.2.0", "`0.2`"),
        ("0.3.5", "`0.3`"),
        ("^0.3", "`0.3`"),
        ("", REQUIRED),
        ("latest", REQUIRED),
        ("0.2, 0.3", REQUIRED),
        ("*", REQUIRED),
        ("9" * 5000, REQUIRED),
        (None, REQUIRED),
    ],
)
async def test_version_that_is_not_served(
    client: httpx.AsyncClient, csi: RecordingCsi, version: str | None, told: str
) -> None:
    body = {"version": version, "function": "chat", **PLAIN_CHAT}
    response = await client.post("/csi", json=body)
    assert response.status_code == 400
    problem = response.json()
    assert problem["code"] == "unsupported_csi_version"
    assert told in problem["detail"]
    told_otherwise = {NOT_YET, NO_LONGER, REQUIRED} - {told}
    assert not [text for text in told_otherwise if text in problem["detail"]]
    assert csi.calls == []


async def test_no_version(client: httpx.AsyncClient) -> None:
    response = await client.post("/csi", json={"function": "chat", **PLAIN_CHAT})
    assert response.status_code == 400
    assert REQUIRED in response.json()["detail"]


@pytest.mark.parametrize(("version", "function"), [("0.2", "explain"), ("0.3", "complete_all")])
async def test_function_of_another_version(
    client: httpx.AsyncClient, version: str, function: str
) -> None:
    response = await client.post("/csi", json={"version": version, "function": function})
    assert response.status_code == 400
    problem = response.json()
    assert problem["code"] == "unknown_csi_function"
    assert f"`{function}`" in problem["detail"]
    assert NOT_YET in problem["detail"]
    for known in legacy.FUNCTIONS[version]:
        assert known in problem["detail"]


@pytest.mark.parametrize("member", [{}, {"function": None}])
async def test_no_function(client: httpx.AsyncClient, member: dict[str, None]) -> None:
    response = await client.post("/csi", json={"version": "0.3", **member})
    assert response.status_code == 400
    assert "specified" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"version": 3, "function": "chat"}, "/version"),
        ({"version": "0.3", "function": ["chat"]}, "/function"),
        ({"version": "0.3", "function": "chat"}, "/requests"),
        ({"version": "0.2", "function": "chat", "model": "m"}, "/messages"),
        (
            {"version": "0.2", "function": "select_language", "text": "", "languages": ["fra"]},
            "/languages/0",
        ),
        (
            {
                "version": "0.3",
                "function": "chat",
                "requests": [PLAIN_CHAT, {**PLAIN_CHAT, "messages": [{"role": "assistant"}]}],
            },
            "/requests/1/messages/0/content",
        ),
        (
            {
                "version": "0.3",
                "function": "explain",
                "requests": [{**EXPLANATION, "granularity": "letter"}],
            },
            "/requests/0/granularity",
        ),
    ],
)
async def test_wrong_shape(
    client: httpx.AsyncClient, csi: RecordingCsi, body: dict[str, Any], place: str
) -> None:
    response = await client.post("/csi", json=body)
    assert response.status_code == 422, response.text
    (error,) = response.json()["errors"]
    assert error["path"] == place
    assert csi.calls == []
