from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from pharia_kernel.csi import types
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.types import FinishReason
from pharia_kernel.errors import InvalidCsiCall, UnexpectedToolCall
from tests.csi.lines.support import LOGPROBS, Reasons, asked, chat_response, completion
from tests.csi.memory import CONTEXT, MemoryCsi, ask

CSI = "pharia:skill/csi@0.2.10#"
PARAMS = {"max-tokens": 5, "temperature": 0.5, "top-k": 3, "top-p": 0.9, "stop": ["."]}
CHAT_PARAMS = {"max-tokens": 5, "temperature": 0.5, "top-p": 0.9}
PATH = {"namespace": "n", "collection": "c", "name": "d"}


def expected_params(special_tokens: bool) -> types.CompletionParams:
    return types.CompletionParams(
        return_special_tokens=special_tokens,
        max_tokens=5,
        temperature=0.5,
        top_k=3,
        top_p=0.9,
        stop=["."],
        frequency_penalty=None,
        presence_penalty=None,
        logprobs="no",
        echo=False,
    )


@pytest.mark.parametrize(
    ("function", "special_tokens"), [("complete", False), ("complete-return-special-tokens", True)]
)
async def test_complete(function: str, special_tokens: bool) -> None:
    result, request, _ = await asked(
        CSI + function, "model", "prompt", PARAMS, answer=completion(FinishReason.LENGTH)
    )
    assert request == types.CompletionRequest("model", "prompt", expected_params(special_tokens))
    assert result == {"text": "text", "finish-reason": "length"}


async def test_complete_all_is_one_batch() -> None:
    csi = MemoryCsi(
        lambda _, request: types.Completion(
            request.prompt, FinishReason.STOP, [], types.Usage(0, 0)
        )
    )
    requests = [{"model": "m", "prompt": p, "params": PARAMS} for p in "ab"]
    result = await ask(GuestCalls(csi, CONTEXT), CSI + "complete-all", requests)
    assert [r["text"] for r in result] == ["a", "b"]
    assert csi.batches == [2]
    assert {r.params.return_special_tokens for _, r in csi.asked} == {False}


async def test_chat() -> None:
    messages = [{"role": role, "content": role[0]} for role in ("system", "user", "assistant")]
    result, request, csi = await asked(
        CSI + "chat", "model", messages, CHAT_PARAMS, answer=chat_response()
    )
    assert request == types.ChatRequest(
        "model",
        [
            types.Message(role="system", content="s"),
            types.Message(role="user", content="u"),
            types.Message(role="assistant", content="a"),
        ],
        types.ChatParams(max_tokens=5, temperature=0.5, top_p=0.9),
    )
    assert csi.split_reasoning == [False]
    assert result == {
        "message": {"role": "assistant", "content": "Hi"},
        "finish-reason": "stop",
    }


async def test_whatever_the_backend_calls_itself_it_is_the_assistant() -> None:
    answer = chat_response()
    answer.message.role = "model"
    result, _, _ = await asked(CSI + "chat", "model", [], CHAT_PARAMS, answer=answer)
    assert result["message"]["role"] == "assistant"


async def test_role_that_the_line_does_not_know() -> None:
    with pytest.raises(InvalidCsiCall, match="tool"):
        await asked(
            CSI + "chat",
            "m",
            [{"role": "tool", "content": ""}],
            CHAT_PARAMS,
            answer=chat_response(),
        )


@pytest.mark.parametrize(("name", "reason"), Reasons)
async def test_finish_reasons(name: str, reason: FinishReason) -> None:
    chat, _, _ = await asked(CSI + "chat", "m", [], CHAT_PARAMS, answer=chat_response(reason))
    text, _, _ = await asked(CSI + "complete", "m", "", PARAMS, answer=completion(reason))
    assert [chat["finish-reason"], text["finish-reason"]] == [name, name]


@pytest.mark.parametrize(
    ("function", "arguments", "answer"),
    [
        ("chat", ["m", [], CHAT_PARAMS], chat_response(FinishReason.TOOL_CALLS)),
        ("complete", ["m", "", PARAMS], completion(FinishReason.TOOL_CALLS)),
    ],
)
async def test_tool_calls_can_not_be_expressed(
    function: str, arguments: list[Any], answer: Any
) -> None:
    with pytest.raises(UnexpectedToolCall):
        await asked(CSI + function, *arguments, answer=answer)


async def test_chunk_has_neither_overlap_nor_offsets() -> None:
    chunks = [types.Chunk("a", 0, None), types.Chunk("b", 1, None)]
    result, request, _ = await asked(
        CSI + "chunk", "ab", {"model": "m", "max-tokens": 1}, answer=chunks
    )
    assert request == types.ChunkRequest("ab", types.ChunkParams("m", 1, 0), False)
    assert result == ["a", "b"]


@pytest.mark.parametrize("found", ["eng", "deu", None])
async def test_select_language(found: str | None) -> None:
    result, request, _ = await asked(CSI + "select-language", "Hi", ["eng", "deu"], answer=found)
    assert request == types.SelectLanguageRequest("Hi", ["eng", "deu"])
    assert result == found


async def test_search_has_no_filters_and_tells_no_cursors() -> None:
    path = types.DocumentPath("n", "c", "d")
    found = types.SearchResult(path, "x", 0.5, types.TextCursor(0, 1), types.TextCursor(2, 3))
    index = {"namespace": "n", "collection": "c", "index": "i"}
    result, request, _ = await asked(CSI + "search", index, "query", 3, 0.1, answer=[found])
    assert request == types.SearchRequest(
        index_path=types.IndexPath("n", "c", "i"),
        query="query",
        max_results=3,
        min_score=0.1,
        filters=[],
    )
    assert result == [{"document-path": PATH, "content": "x", "score": 0.5}]


@pytest.mark.parametrize(("raw", "expected"), [(Raw(b'{"a": 1}'), b'{"a": 1}'), (None, None)])
async def test_document_metadata(raw: Raw | None, expected: bytes | None) -> None:
    result, request, _ = await asked(CSI + "document-metadata", PATH, answer=raw)
    assert request == types.DocumentPath("n", "c", "d")
    assert result == expected


async def test_documents() -> None:
    document = types.Document(
        types.DocumentPath("n", "c", "d"),
        [types.TextModality("x"), types.ImageModality()],
        Raw(b"[1]"),
    )
    result, _, _ = await asked(CSI + "documents", [PATH], answer=document)
    contents = [["text", "x"], ["image", None]]
    assert result == [{"path": PATH, "contents": contents, "metadata": b"[1]"}]


async def test_log_probabilities_are_dropped() -> None:
    answer = completion()
    assert answer.logprobs == LOGPROBS
    result, _, _ = await asked(CSI + "complete", "m", "", PARAMS, answer=answer)
    assert result.keys() == {"text", "finish-reason"}
