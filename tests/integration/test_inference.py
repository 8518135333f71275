"""Skills that chat: what reaches the backend, and what of its answers reaches the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.conftest import BACKEND_TOKEN
from tests.support.faulty_llm import FaultyLlm, answer, chunk, message, sse, stream, together
from tests.support.kernel import NATIVE_TOOLS, KernelProcess, problem, temporary_home
from tests.support.llm import Llm

USER = {"role": "user", "content": "Hi"}
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CALL = {
    "id": "call-1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Heidelberg"}'},
}


def asked(**params: Any) -> dict[str, Any]:
    """Input of the skills that take a whole chat request."""
    return {"model": "m", "messages": [USER], "params": params}


def told(chat: dict[str, Any]) -> dict[str, Any]:
    """The message of `chat_04`'s answer."""
    return dict(chat["message"])


# --- what reaches the backend ---------------------------------------------------------------------


async def test_every_parameter_reaches_the_backend(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    input = asked(
        max_tokens=11,
        max_completion_tokens=12,
        temperature=0.5,
        top_p=0.25,
        frequency_penalty=-0.5,
        presence_penalty=1.5,
        logprobs={"top": 3},
        tools=[WEATHER, {"name": "bare"}],
        tool_choice={"named": "weather"},
        parallel_tool_calls=False,
        response_format={
            "json_schema": {
                "name": "answer",
                "description": "An answer.",
                "schema": {"type": "object"},
                "strict": True,
            }
        },
        reasoning_effort="minimal",
    )
    assert (await kernel.run("chat_04", input)).status_code == 200
    (request,) = backend.received
    assert request.headers["authorization"] == f"Bearer {BACKEND_TOKEN}"
    assert request.body == {
        "model": "m",
        "messages": [USER],
        "max_tokens": 11,
        "max_completion_tokens": 12,
        "temperature": 0.5,
        "top_p": 0.25,
        "frequency_penalty": -0.5,
        "presence_penalty": 1.5,
        "logprobs": True,
        "top_logprobs": 3,
        "tools": [
            {"type": "function", "function": WEATHER},
            {"type": "function", "function": {"name": "bare"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "description": "An answer.",
                "schema": {"type": "object"},
                "strict": True,
            },
        },
        "reasoning_effort": "minimal",
    }


@pytest.mark.parametrize("skill", ["chatty", "chat_02"])
async def test_unset_parameters_are_left_out(
    kernel: KernelProcess, backend: FaultyLlm, skill: str
) -> None:
    chat_02 = {"function": "chat", "model": "m", "messages": [USER], "max_tokens": 16}
    input = chat_02 if skill == "chat_02" else {"model": "m", "text": "Hi"}
    assert (await kernel.run(skill, input)).status_code == 200
    (request,) = backend.received
    assert request.body == {"model": "m", "messages": [USER], "max_tokens": 16}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("text", {"type": "text"}),
        ("json_object", {"type": "json_object"}),
    ],
)
async def test_plain_response_formats(
    kernel: KernelProcess, backend: FaultyLlm, given: str, sent: dict[str, str]
) -> None:
    await kernel.run("chat_04", asked(response_format=given))
    assert backend.received[0].body["response_format"] == sent


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
async def test_tool_choices(kernel: KernelProcess, backend: FaultyLlm, choice: str) -> None:
    await kernel.run("chat_04", asked(tools=[WEATHER], tool_choice=choice))
    assert backend.received[0].body["tool_choice"] == choice


async def test_every_kind_of_message_reaches_the_backend(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    call = {"id": "call-1", "name": "weather", "arguments": '{"city": "Heidelberg"}'}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Briefer."},
        {"role": "User", "content": "Weather?"},
        {"role": "assistant", "reasoning_content": "not to be sent", "tool_calls": [call]},
        {"role": "tool", "content": "Rain", "tool_call_id": "call-1"},
        {"role": "assistant", "content": "Rain."},
    ]
    response = await kernel.run("chat_04", {"model": "m", "messages": messages})
    assert response.status_code == 200
    assert backend.received[0].body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Briefer."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "Rain", "tool_call_id": "call-1"},
        {"role": "assistant", "content": "Rain."},
    ]


async def test_streams_ask_for_usage(kernel: KernelProcess, backend: FaultyLlm) -> None:
    await kernel.stream("stream_chat", {"model": "m", "messages": [USER], "max_tokens": 4})
    (request,) = backend.received
    assert request.body == {
        "model": "m",
        "messages": [USER],
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("part", "input"),
    [
        ("Message 0", {"model": "m", "messages": [{"role": "wizard", "content": "x"}]}),
        ("weather", asked(tools=[{"name": "weather", "parameters": "{"}])),
    ],
    ids=["role", "parameters"],
)
async def test_what_can_not_be_asked_never_reaches_the_backend(
    kernel: KernelProcess, backend: FaultyLlm, part: str, input: dict[str, Any]
) -> None:
    response = await kernel.run("chat_04", input)
    assert problem(response) == (422, "invalid_csi_request")
    assert part in response.json()["detail"]
    assert not backend.received


async def test_callers_tokens_stay_in_the_kernel(kernel: KernelProcess, backend: FaultyLlm) -> None:
    headers = {"Authorization": "Bearer token-of-the-caller"}
    input = {"model": "m", "text": "Hi"}
    assert (await kernel.run("chatty", input, headers=headers)).status_code == 200
    assert "token-of-the-caller" not in str(backend.received[0])


# --- what reaches the caller ----------------------------------------------------------------------


async def test_a_chat_is_answered(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.will(answer(body=message("Hello", finish="length")), answer(body=message("Hello")))
    assert (await kernel.run("chat_04", asked())).json() == {
        "message": {"content": "Hello", "reasoning_content": None, "tool_calls": None},
        "finish_reason": "length",
        "logprobs": [],
        "usage": {"prompt": 3, "completion": 5},
    }
    chat_02 = {"function": "chat", "model": "m", "messages": [USER]}
    assert (await kernel.run("chat_02", chat_02)).json() == {
        "message": {"role": "assistant", "content": "Hello"},
        "finish_reason": "stop",
    }


async def test_tool_calls_are_returned(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.will(answer(body=message(None, finish="tool_calls", tool_calls=[CALL])))
    chat = (await kernel.run("chat_04", asked(tools=[WEATHER]))).json()
    assert chat["finish_reason"] == "tool_calls"
    assert told(chat) == {
        "content": None,
        "reasoning_content": None,
        "tool_calls": [{"id": "call-1", "name": "weather", "arguments": '{"city": "Heidelberg"}'}],
    }


@pytest.mark.parametrize(
    ("sent", "reasoning", "content"),
    [
        (message("Yes", reasoning_content="Hmm"), "Hmm", "Yes"),
        (message("Yes", reasoning="Hmm"), "Hmm", "Yes"),
        (message("Yes", reasoning="Hmm", reasoning_content="Hmm"), "Hmm", "Yes"),
        (message("<think>Hmm</think>Yes"), "Hmm", "Yes"),
        (message("<think>Hmm"), "Hmm", None),
        (message("So <think>Hmm</think>"), None, "So <think>Hmm</think>"),
    ],
    ids=["reasoning_content", "reasoning", "both", "tags", "unfinished", "later"],
)
async def test_reasoning_is_told_apart(
    kernel: KernelProcess,
    backend: FaultyLlm,
    sent: dict[str, Any],
    reasoning: str | None,
    content: str | None,
) -> None:
    backend.will(answer(body=sent))
    told_ = told((await kernel.run("chat_04", asked())).json())
    assert (told_["reasoning_content"], told_["content"]) == (reasoning, content)


async def test_older_lines_get_the_text_as_it_is(kernel: KernelProcess, backend: FaultyLlm) -> None:
    backend.will(answer(body=message("<think>Hmm</think>Yes")))
    response = await kernel.run("chatty", {"model": "m", "text": "Hi"})
    assert response.json() == "<think>Hmm</think>Yes"


async def test_log_probabilities_are_returned(kernel: KernelProcess, backend: FaultyLlm) -> None:
    tops = [{"token": "H", "logprob": -0.5}, {"token": "J", "logprob": -1.5}]
    body = message("H")
    body["choices"][0]["logprobs"] = {
        "content": [{"token": "H", "logprob": -0.5, "bytes": [72], "top_logprobs": tops}]
    }
    backend.will(answer(body=body))
    chat = (await kernel.run("chat_04", asked(logprobs={"top": 2}))).json()
    assert chat["logprobs"] == [
        {
            "sampled": {"token": [72], "logprob": -0.5},
            "top": [{"token": [72], "logprob": -0.5}, {"token": [74], "logprob": -1.5}],
        }
    ]


async def test_a_stream_with_reasoning_and_tool_calls(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    first = {"index": 0, "id": "call-1", "function": {"name": "weather", "arguments": ""}}
    second = {"index": 0, "function": {"arguments": "{}"}}
    backend.will(
        stream(
            sse(
                chunk({"role": "assistant", "content": ""}),
                chunk({"reasoning_content": "Hmm"}),
                chunk({"content": "Let's see."}),
                chunk({"tool_calls": [first]}),
                chunk({"tool_calls": [second]}),
                chunk(finish="tool_calls"),
                chunk(usage=(7, 9)),
                "[DONE]",
            )
        )
    )
    result = await kernel.stream("stream_05", asked(tools=[WEATHER]))
    assert result.events[:-1] == [
        ("message", {"type": "begin"}),
        ("reasoning", {"type": "reasoning", "text": "Hmm"}),
        ("message", {"type": "append", "text": "Let's see."}),
    ]
    assert result.end == {
        "finish_reason": "tool_calls",
        "usage": {"prompt": 7, "completion": 9},
        "tool_calls": [
            {"index": 0, "id": "call-1", "name": "weather", "arguments": ""},
            {"index": 0, "id": None, "name": None, "arguments": "{}"},
        ],
    }


async def test_think_tags_in_a_stream_may_be_split(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    pieces = ["<th", "ink>Hm", "m</thi", "nk>Y", "es"]
    backend.will(
        stream(*(sse(chunk({"content": p})) for p in pieces), sse(chunk(finish="stop"), "[DONE]"))
    )
    result = await kernel.stream("stream_05", asked())
    reasoning = "".join(data["text"] for name, data in result.events if name == "reasoning")
    assert (reasoning, result.text) == ("Hmm", "Yes")


async def test_a_stream_of_the_published_sdk(kernel: KernelProcess, backend: FaultyLlm) -> None:
    result = await kernel.stream("stream_chat", {"model": "m", "messages": [USER]})
    assert result.text == "token token token token token"
    assert result.end == {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 5}


async def test_runs_wait_for_the_backend_at_the_same_time(
    kernel: KernelProcess, backend: FaultyLlm
) -> None:
    backend.will(*[together(4, answer(body=message("together")))] * 4)
    runs = [kernel.run("chatty", {"model": "m", "text": str(i)}) for i in range(4)]
    assert [r.json() for r in await asyncio.gather(*runs)] == ["together"] * 4


# --- calls that need something else ---------------------------------------------------------------


async def test_a_skill_uses_tools(kernel: KernelProcess) -> None:
    assert (await kernel.run("tool_user", {"a": 44, "b": 2})).json() == {
        "tools": ["add", "saboteur", "subtract"],
        "results": ["46", "42", "error: Tool no-such-tool not found on any server."],
    }


async def test_a_failing_tool_does_not_fail_the_skill(kernel: KernelProcess) -> None:
    input = {"steps": ["invoke_tool"], "tool": "saboteur", "arguments": {}}
    assert (await kernel.run("csi_tour", input)).json() == [{"error": "Out of cheese."}]


async def test_several_calls_in_one_run(kernel: KernelProcess, backend: FaultyLlm) -> None:
    steps = ["chat", "chat_stream", "chat_stream_unread", "list_tools", "invoke_tool", "chat"]
    results = (await kernel.run("csi_tour", {"steps": steps})).json()
    assert results[0]["message"]["content"] == "token token token token token"
    assert "".join(results[1]["texts"]) == "token token token token token"
    assert results[1]["usage"] == {"prompt": 1, "completion": 5}
    assert results[2] == {"role": "assistant"}
    assert [tool["name"] for tool in results[3]] == ["add", "saboteur", "subtract"]
    assert results[4]["contents"] == ["3"]
    assert results[5] == results[0]
    assert len(backend.received) == 4


async def test_calls_that_need_no_backend(kernel: KernelProcess, backend: FaultyLlm) -> None:
    steps = ["chunk", "select_language"]
    chunks, language = (await kernel.run("csi_tour", {"steps": steps})).json()
    assert [len(texts) > 1 for texts in chunks] == [True, True], "four characters are not much"
    assert chunks[0][0]["text"] == "The"
    assert language == "eng"
    assert not backend.received


async def test_a_call_with_invalid_arguments_ends_the_run(kernel: KernelProcess) -> None:
    response = await kernel.run("csi_tour", {"steps": ["select_no_language"]})
    assert problem(response) == (422, "invalid_csi_request")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bare_kernel(components: dict[str, Path]) -> AsyncGenerator[KernelProcess, None]:
    """A kernel that no backend is configured for."""
    with temporary_home(engines=1) as home:
        home.deploy("csi_tour", components["csi_tour"])
        async with home.running() as kernel:
            yield kernel


@pytest.mark.parametrize(
    "step",
    [
        "chat",
        "chat_stream",
        "complete",
        "complete_echo",
        "completion_stream",
        "explain",
        "search",
        "documents",
        "document_metadata",
    ],
)
async def test_a_call_without_a_driver_ends_the_run(bare_kernel: KernelProcess, step: str) -> None:
    response = await bare_kernel.run("csi_tour", {"steps": ["list_tools", step]})
    assert problem(response) == (503, "not_configured")
    assert response.json()["fixable_by"] == "operator"


# --- a real model server --------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kernel_with_llm(
    components: dict[str, Path], llm: Llm
) -> AsyncGenerator[KernelProcess, None]:
    names = ("chatty", "chat_02", "chat_04", "stream_chat", "stream_05", "csi_tour")
    settings = {"openai_inference__url": llm.url, "openai_inference__token": llm.token}
    with temporary_home(namespaces={"dev": NATIVE_TOOLS}, **settings) as home:
        home.deploy_all({name: components[name] for name in names})
        async with home.running() as kernel:
            yield kernel


async def test_published_sdk_with_a_real_model(kernel_with_llm: KernelProcess) -> None:
    response = await kernel_with_llm.run("chatty", {"model": "tiny", "text": "Hi"})
    assert response.status_code == 200
    assert isinstance(response.json(), str)


async def test_published_sdk_streams_a_real_model(kernel_with_llm: KernelProcess) -> None:
    input = {"model": "tiny", "messages": [USER], "max_tokens": 12}
    result = await kernel_with_llm.stream("stream_chat", input)
    assert result.events[0] == ("message", {"type": "begin"})
    assert result.end["finish_reason"] in ("stop", "length")
    assert result.end["prompt_tokens"] > 0
    assert 0 < result.end["completion_tokens"] <= 12


async def test_wit_02_with_a_real_model(kernel_with_llm: KernelProcess) -> None:
    input = {"function": "chat", "model": "tiny", "messages": [USER], "max_tokens": 4}
    chat = (await kernel_with_llm.run("chat_02", input)).json()
    assert chat["message"]["role"] == "assistant"
    assert chat["finish_reason"] in ("stop", "length")


async def test_wit_04_with_a_real_model(kernel_with_llm: KernelProcess) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    params = {
        "max_tokens": 64,
        "temperature": 0.0,
        "logprobs": {"top": 2},
        "response_format": {"json_schema": {"name": "s", "schema": schema, "strict": True}},
    }
    response = await kernel_with_llm.run("chat_04", asked(**params) | {"model": "tiny"})
    chat = response.json()
    assert response.status_code == 200, chat
    assert chat["usage"]["completion"] > 0
    assert chat["logprobs"]
    for token in chat["logprobs"]:
        assert token["sampled"]["logprob"] <= 0.0
        assert len(token["top"]) == 2


async def test_wit_05_streams_a_real_model(kernel_with_llm: KernelProcess) -> None:
    result = await kernel_with_llm.stream("stream_05", asked(max_tokens=8) | {"model": "tiny"})
    assert result.end["finish_reason"] in ("stop", "length")
    assert 0 < result.end["usage"]["completion"] <= 8
    assert result.end["tool_calls"] == []


async def test_a_tour_with_a_real_model(kernel_with_llm: KernelProcess) -> None:
    steps = ["chat", "chat_stream", "chat_stream_unread", "complete", "completion_stream"]
    results = (await kernel_with_llm.run("csi_tour", {"steps": steps, "model": "tiny"})).json()
    assert results[0]["usage"]["completion"] > 0
    assert len(results[0]["logprobs"]) > 0
    assert results[1]["role"] == results[2]["role"] == "assistant"
    assert 0 < results[3]["usage"]["completion"] <= 8
    assert 0 < results[4]["usage"]["completion"] <= 8


async def test_the_joke_of_a_real_model(kernel_with_llm: KernelProcess) -> None:
    result = await kernel_with_llm.stream("test-beta/tell_me_a_joke", {})
    assert result.end in ("Stop", "Length")
