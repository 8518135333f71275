"""Skills that were written for ``pharia_skill`` work after their imports are changed.

The kernel has each of them twice: built by the published SDK from its source, and by this one from
the source with the name of the package replaced.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.kernel import KernelProcess, problem
from tests.support.llm import Llm

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]


async def both(kernel: KernelProcess, skill: str, input_: Any) -> tuple[Any, Any]:
    """What the original and the moved skill answer."""
    answers = [await kernel.run(name, input_) for name in (f"original_{skill}", f"moved_{skill}")]
    assert [answer.status_code for answer in answers] == [200, 200], [a.text for a in answers]
    return answers[0].json(), answers[1].json()


@pytest.mark.parametrize(
    "step",
    ["chunk", "select_language", "invoke_tool", "complete"],
)
async def test_calls_have_the_same_results(kernel: KernelProcess, llm: Llm, step: str) -> None:
    original, moved = await both(kernel, "csi_tour", {"steps": [step], "model": llm.model})
    if step == "complete":  # the server's numbers differ in the last digits
        original, moved = (list(map(_without_logprobs, answers)) for answers in (original, moved))
    assert moved == original


def _without_logprobs(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "logprobs": len(answer["logprobs"])}


async def test_chats_have_the_same_shape(kernel: KernelProcess, llm: Llm) -> None:
    steps = ["chat", "chat_stream", "completion_stream", "chat_stream_unread"]
    original, moved = await both(kernel, "csi_tour", {"steps": steps, "model": llm.model})
    for before, after in zip(original, moved, strict=True):
        assert before.keys() == after.keys()
    assert original[0]["message"].items() >= {"role": "assistant"}.items()
    assert original[0]["message"].keys() <= moved[0]["message"].keys()
    assert original[1]["finish_reason"] == moved[1]["finish_reason"] == "length"


async def test_types_have_their_fields_and_new_ones(kernel: KernelProcess) -> None:
    (original,), (moved,) = await both(kernel, "csi_tour", {"steps": ["list_tools"]})
    assert [tool["name"] for tool in moved] == ["add", "saboteur", "subtract"]
    for before, after in zip(original, moved, strict=True):
        assert before.items() <= after.items()


async def test_streams_have_the_same_events(kernel: KernelProcess, llm: Llm) -> None:
    message = {"role": "user", "content": "hi"}
    input_ = {"model": llm.model, "messages": [message], "max_tokens": 4}
    original = await kernel.stream("original_stream_chat", input_)
    moved = await kernel.stream("moved_stream_chat", input_)
    assert moved.end == original.end
    kinds = [{data["type"] for _, data in stream.events} for stream in (original, moved)]
    assert kinds[0] == kinds[1]


async def test_pydantic_says_what_is_wrong(kernel: KernelProcess) -> None:
    answer = await kernel.run("moved_csi_tour", {"steps": [], "namespace": 1})
    assert problem(answer)[0] in (400, 422)
    assert "$.namespace: input should be a valid string" in answer.json()["detail"]


async def test_schemas_are_the_same(kernel: KernelProcess) -> None:
    original = (await kernel.metadata("original_csi_tour")).json()
    moved = (await kernel.metadata("moved_csi_tour")).json()
    for part in ("description", "input_schema", "output_schema"):
        assert moved[part] == original[part]
