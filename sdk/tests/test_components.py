"""Components that the SDK builds, in a real kernel."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.support.kernel import KernelProcess, problem, until
from tests.support.llm import Llm

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]


async def test_a_function_answers(kernel: KernelProcess) -> None:
    answer = await kernel.run("greet", {"name": "Homer"})
    assert (answer.status_code, answer.json()) == (200, "Hello Homer")


async def test_metadata_has_description_and_schemas(kernel: KernelProcess) -> None:
    metadata = (await kernel.metadata("greet")).json()
    assert metadata["description"] == "Greets a person by name."
    name = metadata["input_schema"]["properties"]["name"]
    assert name == {"type": "string", "minLength": 1, "description": "Whom to greet."}
    assert metadata["output_schema"] == {"type": "string"}


async def test_a_streams_metadata_come_with_the_component(kernel: KernelProcess) -> None:
    metadata = (await kernel.metadata("story")).json()
    assert (metadata["skill_type"], metadata["description"]) == ("message_stream", "Tells a story.")
    assert list(metadata["input_schema"]["properties"]) == ["mode", "model"]
    assert metadata["input_schema"]["required"] == ["mode"]
    assert metadata["output_schema"]["properties"] == {"finish_reason": {"type": "string"}}


async def test_the_listing_tells_what_skills_do(kernel: KernelProcess) -> None:
    listing = (await kernel.client.get("/v1/skills?detail=true")).json()
    told = {skill["path"]: skill["description"] for skill in listing}
    assert told["dev/greet"] == "Greets a person by name."
    assert told["dev/story"] == "Tells a story."
    assert told["dev/original_stream_chat"] is None


@pytest.mark.parametrize(
    ("input_", "said"),
    [
        ({}, "$.name: expected a text, at least 1 long, got nothing"),
        ({"name": ""}, "$.name: expected a text, at least 1 long, got the text ''"),
        ({"name": 3}, "got the number 3"),
        ([], "$: expected an object (Input), got the list []"),
    ],
)
async def test_invalid_input_is_named_by_its_path(
    kernel: KernelProcess, input_: Any, said: str
) -> None:
    answer = await kernel.run("greet", input_)
    assert problem(answer)[0] in (400, 422)
    assert said in answer.json()["detail"]


async def test_an_error_shows_the_authors_lines_and_the_log_all(kernel: KernelProcess) -> None:
    answer = await kernel.run("faulty", "deep")
    detail = answer.json()["detail"]
    assert problem(answer)[1] == "skill_failed", answer.text
    assert "KeyError: 'no such city'" in detail
    assert re.search(r'\n  faulty\.py:\d+ in faulty: deep\.fail\("no such city"\)\n', detail)
    assert "lib/deep.py:2 in fail: raise KeyError(text)" in detail
    assert "pharia_kernel_sdk" not in detail

    async def logged() -> bool:
        return "pharia_kernel_sdk/guest/running.py" in kernel.log()

    await until(logged, "the whole traceback is in the log")


@pytest.mark.parametrize(
    ("input_", "said"),
    [
        ("exit", "SystemExit: enough"),
        ("wrong", "returned something else than its annotation says. $: expected an object"),
        ("absent", "The module `imaplib` is not in this component."),
    ],
)
async def test_other_errors_say_what_to_do(kernel: KernelProcess, input_: str, said: str) -> None:
    answer = await kernel.run("faulty", input_)
    assert problem(answer)[1] == "skill_failed", answer.text
    assert said in answer.json()["detail"]


async def test_imports_in_functions_work(kernel: KernelProcess) -> None:
    answer = await kernel.run("faulty", "lazy")
    assert answer.json() == {"word": "found", "mean": 2}


async def test_runs_draw_different_random_numbers(kernel: KernelProcess) -> None:
    answers = [(await kernel.run("faulty", "random")).json()["random"] for _ in range(5)]
    assert len(set(answers)) == 5


async def test_output_is_logged(kernel: KernelProcess) -> None:
    assert (await kernel.run("faulty", "print")).status_code == 200

    async def logged() -> bool:
        return "a line of output" in kernel.log()

    await until(logged, "the output is in the log")


# --- streams


async def test_a_stream_has_reasoning_text_and_payload(kernel: KernelProcess) -> None:
    stream = await kernel.stream("story", {"mode": "fixed"})
    assert stream.text == "Once upon a time"
    assert stream.end == {"finish_reason": "stop"}
    assert ("reasoning" in str(stream.events)) and ("hm" in str(stream.events))


async def test_a_stream_forwards_a_model(kernel: KernelProcess, llm: Llm) -> None:
    stream = await kernel.stream("story", {"mode": "chat", "model": llm.model})
    assert stream.end == {"finish_reason": "length"}
    assert stream.text


async def test_what_a_stream_wrote_before_an_error_stays(kernel: KernelProcess) -> None:
    stream = await kernel.stream("story", {"mode": "broken"})
    assert stream.text == "Once "
    message = stream.error["message"]
    own = r'RuntimeError: the plot is lost\n  story\.py:\d+ in story: raise RuntimeError\(".*"\)'
    assert re.fullmatch(own, message), message

    async def logged() -> bool:
        return "pharia_kernel_sdk/guest/entry_stream.py" in kernel.log()

    await until(logged, "the whole traceback is in the log")


async def test_of_an_endless_recursion_the_innermost_calls_are_shown(
    kernel: KernelProcess,
) -> None:
    answer = await kernel.run("faulty", "recursion")
    detail = answer.json()["detail"]
    assert problem(answer)[1] == "skill_failed", answer.text
    assert detail.startswith("RecursionError: ")
    assert re.search(r"\n  \.\.\. \d+ more of the skill's own calls\n", detail)
    assert detail.count("in again: return again(depth + 1) + 1") == 8


async def test_items_out_of_order_are_the_skills_error(kernel: KernelProcess) -> None:
    stream = await kernel.stream("story", {"mode": "disorder"})
    text = stream.response.text
    assert "MessageAppend: no message has begun." in text
    assert "writer.append_to_message" in text


async def test_a_streams_invalid_input(kernel: KernelProcess) -> None:
    stream = await kernel.stream("story", {"mode": "sad"})
    assert "$.mode: expected one of 'chat', 'fixed'" in stream.response.text


# --- the CSI


async def call(kernel: KernelProcess, llm: Llm, name: str) -> Any:
    answer = await kernel.run("tour", {"call": name, "model": llm.model})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_complete(kernel: KernelProcess, llm: Llm) -> None:
    first, second = await call(kernel, llm, "complete")
    assert first["finish_reason"] == second["finish_reason"] == "length"
    assert first["usage"]["completion"] == 4
    assert len(first["logprobs"][0]["top"]) == 2


async def test_completion_stream(kernel: KernelProcess, llm: Llm) -> None:
    text, reason, usage = await call(kernel, llm, "completion_stream")
    assert (reason, usage["completion"]) == ("length", 4)
    assert text


async def test_chat(kernel: KernelProcess, llm: Llm) -> None:
    response = await call(kernel, llm, "chat")
    assert response["message"]["role"] == "assistant"
    assert response["finish_reason"] == "length"


async def test_chat_with_structured_output(kernel: KernelProcess, llm: Llm) -> None:
    response = await call(kernel, llm, "structured")
    assert response["message"]["content"].replace(" ", "").startswith('{"a"')


async def test_chat_stream(kernel: KernelProcess, llm: Llm) -> None:
    role, message, reason, usage = await call(kernel, llm, "chat_stream")
    assert (role, reason) == ("assistant", "length")
    assert message["content"]
    assert usage["completion"] > 0


async def test_chunk(kernel: KernelProcess, llm: Llm) -> None:
    chunks = await call(kernel, llm, "chunk")
    assert chunks[0] == {"text": "one two.", "character_offset": 0}
    assert chunks[-1]["character_offset"] > 0


async def test_select_language(kernel: KernelProcess, llm: Llm) -> None:
    assert await call(kernel, llm, "select_language") == ["deu", "eng"]


async def test_tool_calls_of_a_model(kernel: KernelProcess, llm: Llm) -> None:
    calls, message, reason = await call(kernel, llm, "tool_calling")
    assert [call["name"] for call in calls] == ["weather"]
    assert message["tool_calls"] == calls
    assert reason == "tool_calls"


async def test_tools(kernel: KernelProcess, llm: Llm) -> None:
    one, several, names = await call(kernel, llm, "tools")
    assert one == "2"
    assert several == ["3", "Out of cheese."]
    assert names == ["add", "saboteur", "subtract"]


@pytest.mark.parametrize("name", ["explain", "search"])
async def test_calls_without_a_backend_reach_the_kernel(
    kernel: KernelProcess, llm: Llm, name: str
) -> None:
    """No backend of this kernel can explain, and no index is there to search."""
    answer = await kernel.run("tour", {"call": name, "model": llm.model})
    _, code = problem(answer)
    assert code not in ("skill_failed", "skill_crashed"), answer.text


async def test_wrong_types_are_the_skills_error(kernel: KernelProcess, llm: Llm) -> None:
    answer = await kernel.run("tour", {"call": "wrong_type", "model": llm.model})
    detail = answer.json()["detail"]
    assert "ChatRequest $.messages: expected a list, got the text 'hello'" in detail
    assert "tour.py:" in detail
