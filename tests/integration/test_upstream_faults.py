"""What callers are told when the inference backend misbehaves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.integration.conftest import BACKEND_TOKEN, STRICT_RUN_TIMEOUT
from tests.support.faulty_llm import (
    Behaviour,
    FaultyLlm,
    answer,
    chunk,
    error,
    hang,
    message,
    raw,
    reset,
    sse,
    stream,
    stream_then_hang,
    stream_then_reset,
)
from tests.support.kernel import PATIENCE, KernelProcess, problem

CHAT = {"model": "some-model", "messages": [{"role": "user", "content": "Hi"}]}
RUN = {"model": "some-model", "text": "Hi"}
FIRST = sse(chunk({"role": "assistant", "content": "Hel"}))

REFUSALS: dict[str, tuple[Behaviour, int, str]] = {
    "internal error": (error(500), 502, "upstream_rejected"),
    "no JSON": (answer(500, "<h1>Oops</h1>"), 502, "upstream_rejected"),
    "bad token": (error(401), 502, "upstream_unauthorized"),
    "unknown model": (error(404, code="model_not_found"), 404, "model_not_found"),
    "busy for long": (
        error(429, headers={"Retry-After": "33"}),
        503,
        "upstream_overloaded",
    ),
    "no quota": (error(429, type="insufficient_quota"), 502, "upstream_rejected"),
    "garbage": (raw(b"\x00\xffnot HTTP at all\r\n\r\n"), 502, "bad_upstream_answer"),
    "error in a success": (
        answer(200, {"error": {"message": "m", "code": "model_not_found"}}),
        404,
        "model_not_found",
    ),
}


@pytest.mark.parametrize("fault", REFUSALS)
async def test_a_run_tells_what_the_backend_did(
    kernel: KernelProcess, backend: FaultyLlm, fault: str
) -> None:
    behaviour, status, code = REFUSALS[fault]
    backend.will(behaviour)
    response = await kernel.run("chatty", RUN)
    assert problem(response) == (status, code)
    assert response.json()["skill"] == "dev/chatty"
    assert len(backend.received) == 1
    assert backend.url not in response.text


@pytest.mark.parametrize("fault", REFUSALS)
@pytest.mark.parametrize("skill", ["stream_chat", "stream_05"])
async def test_a_stream_ends_with_what_the_backend_did(
    kernel: KernelProcess, backend: FaultyLlm, skill: str, fault: str
) -> None:
    behaviour, status, code = REFUSALS[fault]
    backend.will(behaviour)
    failed = (await kernel.stream(skill, CHAT)).error
    assert (failed["status"], failed["code"]) == (status, code)
    assert failed["message"] == failed["detail"]


@pytest.mark.parametrize(
    "body",
    ["not JSON", {"choices": []}, {"choices": "x"}, {"choices": [{"message": {"content": "x"}}]}],
    ids=["text", "no choice", "wrong type", "no finish reason"],
)
async def test_answers_that_make_no_sense(
    kernel: KernelProcess, backend: FaultyLlm, body: Any
) -> None:
    backend.will(answer(200, body))
    assert problem(await kernel.run("chatty", RUN)) == (502, "bad_upstream_answer")


async def test_an_answer_without_content_is_an_error_for_older_lines_only(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    backend.will(answer(body=message(None)), answer(body=message(None)))
    assert problem(await kernel.run("chatty", RUN)) == (502, "empty_content")
    newer = (await kernel.run("chat_04", CHAT)).json()
    assert newer["message"]["content"] is None


async def test_a_tool_call_that_was_not_offered(kernel: KernelProcess, backend: FaultyLlm) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    backend.will(
        answer(body=message(None, finish="tool_calls", tool_calls=[call])),
        stream(sse(chunk({"tool_calls": [{"index": 0, **call}]}), chunk(finish="tool_calls"))),
    )
    assert problem(await kernel.run("chatty", RUN)) == (502, "unexpected_tool_call")
    assert (await kernel.stream("stream_chat", CHAT)).error["code"] == "unexpected_tool_call"


async def test_no_secret_gets_into_the_log(kernel: KernelProcess, backend: FaultyLlm) -> None:
    for behaviour, _, _ in REFUSALS.values():
        backend.will(behaviour)
        await kernel.run("chatty", RUN, headers={"Authorization": "Bearer token-of-the-caller"})
    assert "not HTTP" in kernel.log()
    assert BACKEND_TOKEN not in kernel.log()
    assert "token-of-the-caller" not in kernel.log()


# --- trying again ---------------------------------------------------------------------------------


async def test_a_backend_that_is_busy_for_a_moment_is_asked_again(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    backend.will(error(429, headers={"Retry-After": "0"}))
    assert (await kernel.run("chatty", RUN)).status_code == 200
    assert len(backend.received) == 2


async def test_a_lost_connection_is_opened_again(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.will(reset())
    result = await kernel.stream("stream_chat", CHAT)
    assert result.text == "token token token token token"
    assert len(backend.received) == 2


async def test_the_pause_that_the_backend_asks_for_reaches_the_caller(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    backend.will(error(429, headers={"Retry-After": "33"}))
    response = await kernel.run("chatty", RUN)
    assert response.headers["retry-after"] == "33"
    assert response.json()["retryable"] is True


# --- hanging --------------------------------------------------------------------------------------


async def test_the_deadline_of_a_run_covers_its_chat(
    strict_kernel: KernelProcess, backend: FaultyLlm
) -> None:
    backend.will(hang())
    began = time.monotonic()
    response = await strict_kernel.run("chatty", RUN)
    assert response.status_code == 504
    assert response.json()["code"] in ("run_timed_out", "upstream_timeout")
    assert STRICT_RUN_TIMEOUT - 0.5 < time.monotonic() - began < STRICT_RUN_TIMEOUT + 2
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
    await strict_kernel.idle()


@pytest.mark.parametrize("skill", ["stream_chat", "stream_05"])
async def test_the_deadline_of_a_stream_covers_its_chat(
    strict_kernel: KernelProcess, backend: FaultyLlm, skill: str
) -> None:
    backend.will(stream_then_hang(FIRST))
    result = await strict_kernel.stream(skill, CHAT)
    assert result.text == "Hel"
    assert result.error["status"] == 504
    assert result.error["code"] in ("run_timed_out", "upstream_timeout")
    await asyncio.wait_for(backend.disconnected.wait(), PATIENCE)
    await strict_kernel.idle()


# --- in the middle of a stream --------------------------------------------------------------------


@pytest.mark.parametrize("skill", ["stream_chat", "stream_05"])
@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (stream_then_reset(FIRST), "upstream_unavailable"),
        (stream(FIRST, b"data: {nonsense\n\n"), "bad_upstream_answer"),
        (stream(FIRST, sse({"error": {"message": "out of memory"}})), "upstream_rejected"),
        (stream(FIRST), "bad_upstream_answer"),
        (stream(FIRST, sse("[DONE]")), "bad_upstream_answer"),
    ],
    ids=["reset", "garbage", "error", "end", "done"],
)
async def test_a_stream_that_breaks(
    kernel: KernelProcess, backend: FaultyLlm, skill: str, behaviour: Behaviour, code: str
) -> None:
    backend.will(behaviour)
    result = await kernel.stream(skill, CHAT)
    assert result.text == "Hel"
    assert result.error["code"] == code
    assert len(backend.received) == 1, "what was streamed must not be asked for again"


async def test_usage_and_content_in_one_chunk(kernel: KernelProcess, backend: FaultyLlm) -> None:
    parts: list[Any] = [
        chunk({"role": "assistant", "content": "Hel"}, usage=(3, 1)),
        chunk({"content": "lo"}, finish="stop", usage=(3, 2)),
        "[DONE]",
    ]
    backend.will(stream(sse(*parts)), stream(sse(*parts)))
    older = await kernel.stream("stream_chat", CHAT)
    assert older.text == "Hello"
    assert older.end == {"finish_reason": "stop", "prompt_tokens": 3, "completion_tokens": 2}
    newer = await kernel.stream("stream_05", CHAT)
    assert newer.text == "Hello"
    assert newer.end["usage"] == {"prompt": 3, "completion": 2}


async def test_both_reasoning_fields_are_told_once(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    parts: list[Any] = [
        chunk({"role": "assistant"}),
        chunk({"reasoning": "Hm", "reasoning_content": "Hm"}),
        chunk({"content": "Yes"}, finish="stop"),
        "[DONE]",
    ]
    backend.will(stream(sse(*parts)))
    result = await kernel.stream("stream_05", CHAT)
    assert [data["text"] for name, data in result.events if name == "reasoning"] == ["Hm"]
    assert result.text == "Yes"


async def test_bytes_may_come_in_any_pieces(kernel: KernelProcess, backend: FaultyLlm) -> None:
    whole = sse(chunk({"content": "Grüße"}), chunk({"content": " 世界"}), chunk(finish="stop"))
    whole = whole.replace(b"\n\n", b"\r\n\r\n") + b": a comment\r\n\r\n" + sse("[DONE]")
    backend.will(stream(*(whole[i : i + 3] for i in range(0, len(whole), 3))))
    result = await kernel.stream("stream_05", CHAT)
    assert result.text == "Grüße 世界"
    assert result.end["finish_reason"] == "stop"


async def test_a_backend_that_is_gone(new_home: Any, components: dict[str, Any]) -> None:
    home = new_home(openai_inference__url="http://127.0.0.1:9/v1", openai_inference__token="t")
    home.deploy("chat_02", components["chat_02"])
    async with home.running() as kernel:
        input = {"function": "chat", **CHAT}
        response = await kernel.run("chat_02", input)
        assert problem(response) == (502, "upstream_unavailable")
        assert "127.0.0.1" not in response.text
