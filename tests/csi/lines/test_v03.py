from __future__ import annotations

import math
from typing import Any

import pytest

from pharia_kernel.csi import types
from pharia_kernel.csi.guest import GuestCalls
from pharia_kernel.csi.streams import CAPACITY
from pharia_kernel.csi.types import FinishReason
from pharia_kernel.errors import KernelError, UnexpectedToolCall, UpstreamUnavailable
from tests.csi.lines.support import (
    LOGPROBS,
    LOGPROBS_IN_WIT,
    USAGE,
    USAGE_IN_WIT,
    Reasons,
    asked,
    chat_response,
    completion,
    streamed,
)
from tests.csi.memory import CONTEXT, MemoryCsi, ask

INTERFACE = "pharia:skill/inference@0.3.11"
CHAT_PARAMS: dict[str, Any] = {
    "max-tokens": 5,
    "temperature": 0.5,
    "top-p": 0.9,
    "frequency-penalty": 0.1,
    "presence-penalty": 0.2,
    "logprobs": ["no", None],
}
PARAMS: dict[str, Any] = {
    **CHAT_PARAMS,
    "top-k": 3,
    "stop": ["."],
    "return-special-tokens": True,
}
COMPLETION = {"model": "model", "prompt": "prompt", "params": PARAMS}


def chat(*messages: tuple[str, str], **params: Any) -> dict[str, Any]:
    return {
        "model": "model",
        "messages": [{"role": role, "content": content} for role, content in messages],
        "params": {**CHAT_PARAMS, **params},
    }


def expected(echo: bool) -> types.CompletionRequest:
    return types.CompletionRequest(
        "model",
        "prompt",
        types.CompletionParams(
            return_special_tokens=True,
            max_tokens=5,
            temperature=0.5,
            top_k=3,
            top_p=0.9,
            stop=["."],
            frequency_penalty=0.1,
            presence_penalty=0.2,
            logprobs="no",
            echo=echo,
        ),
    )


async def test_complete_has_no_echo() -> None:
    result, request, _ = await asked(f"{INTERFACE}#complete", [COMPLETION], answer=completion())
    assert request == expected(echo=False)
    assert result == [
        {
            "text": "text",
            "finish-reason": "stop",
            "logprobs": LOGPROBS_IN_WIT,
            "usage": USAGE_IN_WIT,
        }
    ]


@pytest.mark.parametrize("echo", [True, False])
async def test_complete_v2_hands_on_echo(echo: bool) -> None:
    arguments = [{**COMPLETION, "params": {**PARAMS, "echo": echo}}]
    _, request, _ = await asked(f"{INTERFACE}#complete-v2", arguments, answer=completion())
    assert request == expected(echo)


@pytest.mark.parametrize(
    ("case", "choice"),
    [
        (["no", None], "no"),
        (["sampled", None], "sampled"),
        (["top", 0], types.TopLogprobs(0)),
        (["top", 255], types.TopLogprobs(255)),
    ],
)
async def test_log_probabilities(case: Any, choice: types.LogprobsChoice) -> None:
    _, request, _ = await asked(f"{INTERFACE}#chat", [chat(logprobs=case)], answer=chat_response())
    assert request.params.logprobs == choice


async def test_probability_that_the_backend_does_not_have_is_no_number() -> None:
    answer = completion()
    answer.logprobs = [types.Distribution(types.Logprob(b"a", math.nan), [])]
    result, _, _ = await asked(f"{INTERFACE}#complete", [COMPLETION], answer=answer)
    assert math.isnan(result[0]["logprobs"][0]["sampled"]["logprob"])


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (types.Usage(-1, 2**32), {"prompt": 0, "completion": 2**32 - 1}),
        (types.Usage(0, 2**32 - 1), {"prompt": 0, "completion": 2**32 - 1}),
    ],
)
async def test_senseless_usage_does_not_fail_the_call(
    usage: types.Usage, told: dict[str, int]
) -> None:
    answer = completion()
    answer.usage = usage
    result, _, _ = await asked(f"{INTERFACE}#complete", [COMPLETION], answer=answer)
    assert result[0]["usage"] == told


async def test_chat() -> None:
    result, request, csi = await asked(
        f"{INTERFACE}#chat", [chat(("user", "Hello"))], answer=chat_response()
    )
    assert request == types.ChatRequest(
        "model",
        [types.Message(role="user", content="Hello")],
        types.ChatParams(
            max_tokens=5,
            temperature=0.5,
            top_p=0.9,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            logprobs="no",
        ),
    )
    assert csi.split_reasoning == [False]
    assert result == [
        {
            "message": {"role": "assistant", "content": "Hi"},
            "finish-reason": "stop",
            "logprobs": LOGPROBS_IN_WIT,
            "usage": USAGE_IN_WIT,
        }
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("assistant", "assistant"),
        ("Assistant", "assistant"),
        ("ASSISTANT", "assistant"),
        ("system", "system"),
        ("User", "User"),
        ("tool", "tool"),
        ("", ""),
    ],
)
async def test_roles(written: str, meant: str) -> None:
    """W16: the history of a conversation keeps its roles."""
    _, request, _ = await asked(
        f"{INTERFACE}#chat", [chat((written, "x"), ("user", "y"))], answer=chat_response()
    )
    assert [m.role for m in request.messages] == [meant, "user"]
    assert [m.content for m in request.messages] == ["x", "y"]


@pytest.mark.parametrize(("name", "reason"), Reasons)
async def test_finish_reasons(name: str, reason: FinishReason) -> None:
    answered, _, _ = await asked(f"{INTERFACE}#chat", [chat()], answer=chat_response(reason))
    completed, _, _ = await asked(f"{INTERFACE}#complete", [COMPLETION], answer=completion(reason))
    told, _, _ = await streamed(INTERFACE, "chat-stream", chat(), [types.MessageEnd(reason)])
    appended, _, _ = await streamed(
        INTERFACE, "completion-stream", COMPLETION, [types.CompletionEnd(reason)]
    )
    assert answered[0]["finish-reason"] == completed[0]["finish-reason"] == name
    assert [told[0], appended[0]] == [["message-end", name], ["end", name]]


TOOL_CALLS = FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("function", "argument", "answer"),
    [
        ("chat", chat(), chat_response(TOOL_CALLS)),
        ("complete", COMPLETION, completion(TOOL_CALLS)),
    ],
)
async def test_tool_calls_can_not_be_expressed(function: str, argument: Any, answer: Any) -> None:
    with pytest.raises(UnexpectedToolCall):
        await asked(f"{INTERFACE}#{function}", [argument], answer=answer)


@pytest.mark.parametrize(
    ("stream", "init", "event"),
    [
        ("chat-stream", chat(), types.MessageEnd(TOOL_CALLS)),
        ("chat-stream", chat(), types.ToolCallDelta([types.ToolCallChunk(0)])),
        ("completion-stream", COMPLETION, types.CompletionEnd(TOOL_CALLS)),
    ],
)
async def test_tool_calls_can_not_be_streamed(stream: str, init: Any, event: Any) -> None:
    with pytest.raises(UnexpectedToolCall):
        await streamed(INTERFACE, stream, init, [event])


async def test_chat_stream() -> None:
    events = [
        types.MessageBegin("assistant"),
        types.MessageAppend("Hi", LOGPROBS),
        types.MessageEnd(FinishReason.STOP),
        types.UsageEvent(USAGE),
    ]
    got, request, csi = await streamed(INTERFACE, "chat-stream", chat(("Assistant", "x")), events)
    assert got == [
        ["message-begin", "assistant"],
        ["message-append", {"content": "Hi", "logprobs": LOGPROBS_IN_WIT}],
        ["message-end", "stop"],
        ["usage", USAGE_IN_WIT],
    ]
    assert request.messages == [types.Message(role="assistant", content="x")]
    assert csi.split_reasoning == [False]


async def test_completion_stream() -> None:
    events = [
        types.CompletionAppend("a", LOGPROBS),
        types.CompletionEnd(FinishReason.LENGTH),
        types.UsageEvent(USAGE),
    ]
    got, request, _ = await streamed(INTERFACE, "completion-stream", COMPLETION, events)
    assert got == [
        ["append", {"text": "a", "logprobs": LOGPROBS_IN_WIT}],
        ["end", "length"],
        ["usage", USAGE_IN_WIT],
    ]
    assert request == expected(echo=False)


@pytest.mark.parametrize("stream", ["chat-stream", "completion-stream"])
async def test_stream_without_usage_ends_with_zero(stream: str) -> None:
    """The published SDK fails on a stream that tells none."""
    init = chat() if stream == "chat-stream" else COMPLETION
    got, _, _ = await streamed(INTERFACE, stream, init, [])
    assert got == [["usage", {"prompt": 0, "completion": 0}]]


async def test_what_was_not_read_is_closed_with_the_stream() -> None:
    csi = MemoryCsi(lambda *_: [types.MessageAppend("a", [])] * 3 * CAPACITY)
    guest = GuestCalls(csi, CONTEXT)
    await ask(guest, f"{INTERFACE}#[constructor]chat-stream", 1, chat())
    assert await ask(guest, f"{INTERFACE}#[method]chat-stream.next", 1)
    await guest.close()
    assert csi.closed == ["chat_stream"]


@pytest.mark.parametrize("stream", ["chat-stream", "completion-stream"])
async def test_stream_that_fails_does_not_end_with_usage(stream: str) -> None:
    init = chat() if stream == "chat-stream" else COMPLETION
    with pytest.raises(UpstreamUnavailable):
        await streamed(INTERFACE, stream, init, [UpstreamUnavailable("gone")])


async def test_reasoning_that_was_not_asked_for_is_a_fault_of_the_driver() -> None:
    with pytest.raises(Exception, match="reasoning") as caught:
        await streamed(INTERFACE, "chat-stream", chat(), [types.Reasoning("hm")])
    assert not isinstance(caught.value, KernelError)


@pytest.mark.parametrize("granularity", ["auto", "word", "sentence", "paragraph"])
async def test_explain(granularity: Any) -> None:
    request = {"prompt": "p", "target": "t", "model": "m", "granularity": granularity}
    scores = [types.TextScore(1, 2, -0.5)]
    result, got, _ = await asked(f"{INTERFACE}#explain", [request], answer=scores)
    assert got == types.ExplanationRequest("p", "t", "m", granularity)
    assert result == [[{"start": 1, "length": 2, "score": -0.5}]]
