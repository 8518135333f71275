"""Skills that use ``pharia_skill`` as its own examples do, with nothing but their imports changed,
answer the same as components and in development mode, and as the published SDK builds them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from published_support import ALL, ORIGINALS, STREAMS, Kernels, running_kernels, told
from tests.support.llm import Llm

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]

ENGLISH = "The kernel runs skills, and every skill asks it for what the world outside has to tell. "
GERMAN = "Der Kern führt Fertigkeiten aus, und jede fragt ihn nach der Welt da draußen."

INPUTS: dict[str, list[Any]] = {
    "haiku": [{"topic": "the sea"}],
    "haiku_stream": [{"topic": "the sea"}, {"topic": "the sea", "model": "unheard-of"}],
    "haiku_stream_collect": [{"topic": "the sea"}],
    "news_summarizer": [{"topic": "ships"}],
    "rag": [{"question": "Who jumps?"}, {"question": "Who jumps?", "min_score": 1.0}],
    "summarize": [
        {"text": ENGLISH, "length": "short"},
        {"text": ENGLISH * 3, "length": "long", "language": "eng"},
        {"text": GERMAN, "length": "long"},
    ],
    "tool_call": [2, -100],
    "web_search": [{"messages": [{"role": "user", "content": "Who was first?"}]}],
}
WRONG: dict[str, list[Any]] = {
    "haiku": [{}, {"topic": 3}, []],
    "haiku_stream": [{"topic": None}],
    "news_summarizer": [{"topic": "nothing"}],
    "summarize": [
        {"text": "x", "length": "endless"},
        {"text": "x", "length": "short", "language": "xx"},
    ],
    "tool_call": ["two", None, 2.5],
    "web_search": [{"messages": [{"role": "user"}]}],
}
"""What ends in an error: input that does not fit, and a tool that fails."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kernels(llm: Llm) -> AsyncGenerator[Kernels, None]:
    async with running_kernels(llm) as kernels:
        yield kernels


def cases(inputs: dict[str, list[Any]], names: tuple[str, ...] = ALL) -> list[tuple[str, Any]]:
    return [(name, input_) for name in names for input_ in inputs.get(name, ())]


@pytest.mark.parametrize(("name", "input_"), cases(INPUTS))
async def test_ported_skills_answer_the_same_in_both_ways(
    kernels: Kernels, name: str, input_: Any
) -> None:
    component = await told(kernels.components, name, name, input_)
    assert component[0] == 200, component
    assert await told(kernels.sources, name, name, input_) == component


@pytest.mark.parametrize(("name", "input_"), cases(WRONG))
async def test_ported_skills_fail_the_same_in_both_ways(
    kernels: Kernels, name: str, input_: Any
) -> None:
    component = await told(kernels.components, name, name, input_)
    assert failed(component)
    assert await told(kernels.sources, name, name, input_) == component


@pytest.mark.parametrize(("name", "input_"), cases(INPUTS, ORIGINALS))
async def test_ported_skills_answer_as_the_published_sdk_does(
    kernels: Kernels, name: str, input_: Any
) -> None:
    before = await told(kernels.components, f"original_{name}", name, input_)
    assert before[0] == 200, before
    assert await told(kernels.components, name, name, input_) == before


@pytest.mark.parametrize(("name", "input_"), cases(WRONG, ORIGINALS))
async def test_ported_skills_fail_where_the_published_sdk_does(
    kernels: Kernels, name: str, input_: Any
) -> None:
    """The texts are others: it says which input is wrong, and not how pydantic found out."""
    before = await told(kernels.components, f"original_{name}", name, input_)
    after = await told(kernels.components, name, name, input_)
    assert failed(before) and failed(after)
    assert (before[0], code(before)) == (after[0], code(after))


def failed(answer: list[Any]) -> bool:
    return code(answer) is not None


def code(answer: list[Any]) -> str | None:
    """Of the problem; for a stream that of its last event."""
    _, body = answer
    if isinstance(body, list):
        event, body = body[-1]
        if event != "error":
            return None
    return body.get("code") if isinstance(body, dict) else None


async def test_answers_are_of_the_kind_that_is_meant(kernels: Kernels) -> None:
    """So that equal nonsense does not count."""

    async def run(name: str, number: int = 0) -> Any:
        return (await told(kernels.components, name, name, INPUTS[name][number]))[1]

    assert await run("tool_call") == 42
    news = await run("news_summarizer")
    assert [title.partition(" at ")[0] for title in news["sources"]] == ["ships", "ships"]
    assert (await run("rag"))["number_of_documents"] > 0
    assert await run("rag", 1) == {"answer": "nothing found", "number_of_documents": 0}
    for name in STREAMS:
        events = [data for _, data in await run(name)]
        assert (events[0]["type"], events[-1]["type"]) == ("begin", "end")
        assert any(data["type"] == "append" for data in events)


@pytest.mark.parametrize("name", [n for n in ALL if n not in STREAMS])
async def test_metadata_is_the_same_in_both_ways(kernels: Kernels, name: str) -> None:
    component, source = [
        (await kernel.metadata(name)).json() for kernel in (kernels.components, kernels.sources)
    ]
    assert component["input_schema"] and source == component
