"""Examples of requests and answers for the documentation."""

from __future__ import annotations

from functools import cache
from typing import Any

from pharia_kernel.csi.types import (
    CompletionAppend,
    CompletionEnd,
    FinishReason,
    MessageAppend,
    MessageBegin,
    MessageEnd,
    Reasoning,
    Usage,
    UsageEvent,
)
from pharia_kernel.shell.csi.answers import frame, frame_v2

_MODEL = "llama-3.1-8b-instruct"
_USAGE = {"prompt": 12, "completion": 3}
_END = UsageEvent(Usage(12, 3))
_COMPLETION = {
    "model": _MODEL,
    "prompt": "An apple a day",
    "params": {
        "return_special_tokens": False,
        "max_tokens": 16,
        "stop": ["."],
        "logprobs": {"top": 1},
    },
}
_APPLES = {
    "sampled": {"token": [32, 107], "logprob": -0.25},
    "top": [{"token": [32, 107], "logprob": -0.25}],
}
_CHAT = {
    "model": _MODEL,
    "messages": [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    "params": {"max_tokens": 64, "temperature": 0.5, "logprobs": "no"},
}
_MESSAGE_V1 = {"role": "assistant", "content": "Paris.", "tool_call_id": None, "tool_calls": None}
_MESSAGE_V2 = {
    "role": "assistant",
    "content": "Paris.",
    "reasoning_content": "A question of geography.",
    "tool_call_id": None,
    "tool_calls": None,
}
_PARAMS = {"model": _MODEL, "max_tokens": 4, "overlap": 0}
_DOCUMENT = {"namespace": "kernel", "collection": "docs", "name": "intro"}
_TEXT = "One sentence. Another one."

LEGACY_REQUEST = {
    "version": "0.3",
    "function": "chunk",
    "requests": [{"text": _TEXT, "params": _PARAMS}],
}


@cache
def requests_and_answers(version: str) -> dict[str, tuple[Any, Any]]:
    """The body of a request and that of its answer, or the events, per function."""
    events: list[Any] = [MessageBegin("assistant")]
    if version == "v2":
        events.append(Reasoning("A question of geography."))
    events += [MessageAppend("Paris.", []), MessageEnd(FinishReason.STOP), _END]
    framed = [(frame_v2 if version == "v2" else frame)(event) for event in events]
    return {
        "chat": ([_CHAT], [_chat_response(version)]),
        "chat_stream": (_CHAT, b"".join(framed).decode()),
        **_REQUESTS_AND_ANSWERS,
    }


def _chat_response(version: str) -> dict[str, Any]:
    return {
        "message": _MESSAGE_V1 if version == "v1" else _MESSAGE_V2,
        "finish_reason": "stop",
        "logprobs": [],
        "usage": _USAGE,
    }


_REQUESTS_AND_ANSWERS: dict[str, tuple[Any, Any]] = {
    "chunk": ([{"text": _TEXT, "params": _PARAMS}], [["One sentence.", "Another one."]]),
    "chunk_with_offsets": (
        [{"text": _TEXT, "params": _PARAMS, "character_offsets": True}],
        [
            [
                {"text": "One sentence.", "byte_offset": 0, "character_offset": 0},
                {"text": "Another one.", "byte_offset": 14, "character_offset": 14},
            ]
        ],
    ),
    "complete": (
        [_COMPLETION],
        [
            {
                "text": " keeps the doctor away",
                "finish_reason": "stop",
                "logprobs": [_APPLES],
                "usage": _USAGE,
            }
        ],
    ),
    "completion_stream": (
        _COMPLETION,
        b"".join(
            frame(event)
            for event in (
                CompletionAppend(" keeps the doctor away", []),
                CompletionEnd(FinishReason.STOP),
                _END,
            )
        ).decode(),
    ),
    "documents": (
        [_DOCUMENT],
        [
            {
                "path": _DOCUMENT,
                "contents": [{"modality": "text", "text": _TEXT}, {"modality": "image"}],
                "metadata": {"year": 2024},
            }
        ],
    ),
    "document_metadata": ([_DOCUMENT], [{"year": 2024}]),
    "explain": (
        [
            {
                "prompt": "An apple a day",
                "target": " keeps the doctor away",
                "model": _MODEL,
                "granularity": "word",
            }
        ],
        [[{"start": 3, "length": 5, "score": 0.75}]],
    ),
    "invoke_tool": (
        {
            "namespace": "dev",
            "requests": [
                {
                    "name": "add",
                    "arguments": [{"name": "a", "value": 1}, {"name": "b", "value": 2}],
                },
                {"name": "saboteur", "arguments": []},
            ],
        },
        [[{"type": "text", "text": "3"}], "Out of cheese."],
    ),
    "list_tools": (
        {"namespace": "dev"},
        [{"name": "add", "description": "Add two numbers", "input_schema": {"type": "object"}}],
    ),
    "search": (
        [
            {
                "index_path": {"namespace": "kernel", "collection": "docs", "index": "asymmetric"},
                "query": "What is a skill?",
                "max_results": 1,
                "min_score": 0.5,
                "filters": [{"with": [{"metadata": {"field": "year", "greater_than": 2023}}]}],
            }
        ],
        [
            [
                {
                    "document_path": _DOCUMENT,
                    "content": "A skill is a WebAssembly component.",
                    "score": 0.875,
                    "start": {"item": 0, "position": 0},
                    "end": {"item": 0, "position": 34},
                }
            ]
        ],
    ),
    "select_language": ([{"text": "Ein Apfel", "languages": ["eng", "deu"]}], ["deu"]),
}
