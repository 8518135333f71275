"""Requests for every function of every WIT line."""

from __future__ import annotations

from tests.integration.csi.support import CARD, FOX, FOX_TEXT, INDEX, Call, Json

USER = {"role": "user", "content": "Hi"}
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund."
ODD_TEXT = "Größe zählt: 日本語, 👩‍👩‍👧 and e\u0301 are text. What is asked is told."


# --- 0.3 and later, and /csi/v1 and /csi/v2 -------------------------------------------------------


def chat(model: str = "tiny", **params: Json) -> Json:
    params = {"max_tokens": 8, "temperature": 0.0, "logprobs": "no"} | params
    return {
        "model": model,
        "messages": [{"role": "system", "content": "x"}, USER],
        "params": params,
    }


def completion(model: str = "tiny", **params: Json) -> Json:
    params = {"max_tokens": 6, "temperature": 0.0, "stop": [], "logprobs": "no"} | params
    return {
        "model": model,
        "prompt": "An apple a day",
        "params": {"return_special_tokens": False} | params,
    }


def chunking(**more: Json) -> list[Json]:
    """Two texts, of which one fits into a single chunk."""
    params = {"model": "tiny", "max_tokens": 8, "overlap": 3}
    return [{"text": text, "params": params, **more} for text in (ODD_TEXT, "short")]


def search(**more: Json) -> Json:
    return {"index_path": INDEX, "query": FOX_TEXT, "max_results": 3, "filters": [], **more}


def metadata(field: str, **condition: Json) -> Json:
    return {"metadata": {"field": field, **condition}}


SEARCHES = [
    search(),
    search(min_score=0.999),
    search(max_results=1),
    search(
        filters=[
            {"with": [metadata("legs", greater_than=3.5), metadata("legs", less_than=4.5)]},
            {"with": [metadata("seen", after="2024-01-01T00:00:00Z")]},
            {"with_one_of": [metadata("kind", equal_to="plant"), metadata("legs", equal_to=4)]},
            {"without": [metadata("wild", equal_to=False)]},
        ]
    ),
    search(
        filters=[
            {
                "with_one_of": [
                    metadata("legs", greater_than_or_equal_to=4.0),
                    metadata("legs", less_than_or_equal_to=4.0),
                    metadata("seen", at_or_after="2024-01-01T00:00:00Z"),
                    metadata("seen", before="2024-01-01T00:00:00Z"),
                    metadata("seen", at_or_before="2024-01-01T00:00:00Z"),
                ]
            },
            {"without": [metadata("kind", is_null=True)]},
        ]
    ),
    search(filters=[{"with": [metadata("kind", equal_to="plant")]}]),
]

TOOLS = {
    "namespace": "dev",
    "requests": [
        {"name": "add", "arguments": [{"name": "a", "value": 40}, {"name": "b", "value": 2}]},
        {"name": "echo", "arguments": [{"name": "x", "value": {"deep": ["å", None, 1.5]}}]},
        {"name": "structured", "arguments": []},
        {"name": "fail", "arguments": []},
        {"name": "saboteur", "arguments": []},
        {"name": "no-such-tool", "arguments": []},
    ],
}

COMMON: list[Call] = [
    ("chat", [chat(), chat(max_tokens=2, top_p=0.5, frequency_penalty=0.5, presence_penalty=0.5)]),
    ("chat", [chat(logprobs="sampled"), chat(logprobs={"top": 2})]),
    ("complete", [completion(), completion(top_k=1, logprobs={"top": 2}), completion("luminous")]),
    ("complete", [completion("luminous", return_special_tokens=True, logprobs="sampled")]),
    ("chat_stream", chat()),
    ("completion_stream", completion()),
    ("completion_stream", completion("luminous")),
    ("chunk", chunking()),
    ("chunk_with_offsets", [*chunking(character_offsets=True), *chunking(character_offsets=False)]),
    (
        "select_language",
        [
            {"text": FOX_TEXT, "languages": ["eng", "deu"]},
            {"text": GERMAN, "languages": ["eng", "deu", "fra"]},
            {"text": "", "languages": ["eng", "deu"]},
        ],
    ),
    ("search", SEARCHES),
    ("documents", [FOX, CARD]),
    ("document_metadata", [CARD, FOX]),
    ("invoke_tool", TOOLS),
    ("list_tools", {"namespace": "dev"}),
]
"""Functions that every line from 0.3 on has."""

EXPLANATIONS: list[Call] = [
    ("explain", [_explanation])
    for _explanation in (
        {"prompt": FOX_TEXT, "target": "dog", "model": "luminous", "granularity": granularity}
        for granularity in ("auto", "word", "sentence", "paragraph")
    )
]
UNREAD: list[Call] = [
    ("chat_stream_unread", chat()),
    ("chat_stream_begun", chat()),
    ("completion_stream_unread", completion()),
    ("completion_stream_begun", completion()),
]
"""Only skills can leave a stream like that."""
ECHO: list[Call] = [("complete", [completion(m, echo=True) for m in ("tiny", "luminous")])]


# --- 0.2 ------------------------------------------------------------------------------------------


_COMPLETION_02 = {
    "model": "tiny",
    "prompt": "An apple a day",
    "params": {"max_tokens": 6, "temperature": 0.0, "top_k": 1, "top_p": 0.9, "stop": ["zz"]},
}
_WITH_SPECIAL_TOKENS = {
    "model": "luminous",
    "prompt": "Hello",
    "params": {"return_special_tokens": True, "stop": []},
}

CALLS_02: list[Call] = [
    ("complete", _COMPLETION_02),
    ("complete", _WITH_SPECIAL_TOKENS),
    ("complete_all", {"requests": [_COMPLETION_02, _COMPLETION_02 | {"prompt": "Bread"}]}),
    (
        "chat",
        {
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "x"},
                USER,
                {"role": "assistant", "content": "Yes?"},
                USER,
            ],
            "params": {"max_tokens": 8, "temperature": 0.0},
        },
    ),
    ("chunk", {"text": ODD_TEXT, "params": {"model": "tiny", "max_tokens": 8}}),
    ("select_language", {"text": GERMAN, "languages": ["eng", "deu"]}),
    ("select_language", {"text": "", "languages": ["eng", "deu"]}),
    ("search", {"index_path": INDEX, "query": FOX_TEXT, "max_results": 3, "min_score": 0.1}),
    ("document_metadata", {"document_path": FOX}),
    ("document_metadata", {"document_path": CARD}),
    ("documents", {"requests": [FOX, CARD]}),
]
