"""A skill of each WIT line makes every call, and gets what the same requests get over HTTP."""

from __future__ import annotations

import json
import re

import pytest

from tests.csi.wit_types import declared
from tests.integration.csi.calls import (
    CALLS_02,
    COMMON,
    ECHO,
    EXPLANATIONS,
    ODD_TEXT,
    TOOLS,
    UNREAD,
    completion,
)
from tests.integration.csi.support import (
    CALLER,
    CARD,
    FOX,
    FOX_METADATA,
    FOX_TEXT,
    Call,
    Json,
    World,
    http,
    legacy,
    same,
    tour,
)

CALLS: dict[str, list[Call]] = {
    "0.2": CALLS_02,
    "0.3": [*COMMON, *EXPLANATIONS, *UNREAD, ("complete_v2", ECHO[0][1])],
    "0.4": [*COMMON, *ECHO, *UNREAD],
    "0.5": [*COMMON, *ECHO, *UNREAD],
}
ONLY_IN_SKILLS = ("_unread", "_begun")


@pytest.mark.parametrize("line", list(CALLS))
async def test_the_calls_are_all_there_are(line: str) -> None:
    functions = {name.partition("#")[2].replace("-", "_") for name in declared(line)}
    resources = {m[1] for f in functions if (m := re.match(r"\[\w+\](\w+_stream)", f))}
    plain = {f for f in functions if "[" not in f}
    made = {name for name, _ in CALLS[line]}
    if line == "0.2":
        # The skill tells it from `complete` by the parameter that HTTP has for it.
        plain.remove("complete_return_special_tokens")
        assert any(body["params"].get("return_special_tokens") for name, body in CALLS_02[:2])
    assert made - {f"{r}{suffix}" for r in resources for suffix in ONLY_IN_SKILLS} == (
        plain | resources
    )


@pytest.mark.parametrize("line", list(CALLS))
async def test_a_skill_gets_what_http_gets(world: World, line: str) -> None:
    answers = await tour(world.kernel, line, CALLS[line], CALLER)
    assert len(answers) == len(CALLS[line])
    for call, answer in zip(CALLS[line], answers, strict=True):
        if not call[0].endswith(ONLY_IN_SKILLS):
            assert answer == same(await _over_http(world, line, call)), call


async def _over_http(world: World, line: str, call: Call) -> Json:
    if line == "0.2":
        return await legacy(world.kernel, line, call)
    name, body = call
    route = "complete" if name == "complete_v2" else name
    return await http(world.kernel, "v1" if line == "0.3" else "v2", (route, body))


@pytest.mark.parametrize("call", [*COMMON, *EXPLANATIONS], ids=lambda call: call[0])
async def test_v1_and_v2_and_the_legacy_route_agree(world: World, call: Call) -> None:
    first = await http(world.kernel, "v1", call)
    assert _without_what_only_v1_has(call[0], first) == same(
        _without_what_only_v2_has(call[0], await http(world.kernel, "v2", call))
    )
    if call[0] not in NOT_LEGACY:
        answer = await legacy(world.kernel, "0.3", call)
        assert answer == same(_as_legacy(call[0], first))


NOT_LEGACY = ("chat_stream", "completion_stream", "invoke_tool", "list_tools")


def _without_what_only_v1_has(name: str, answer: Json) -> Json:
    """Chat streams of v2 have no log probabilities."""
    if name != "chat_stream":
        return answer
    return [[event, {k: v for k, v in data.items() if k != "logprobs"}] for event, data in answer]


def _without_what_only_v2_has(name: str, answer: Json) -> Json:
    """Messages of v1 have no reasoning; the test model does not reason."""
    if name != "chat":
        return answer
    for response in answer:
        assert response["message"].pop("reasoning_content") is None
    return answer


def _as_legacy(name: str, answer: Json) -> Json:
    """Messages of the legacy route are a role and a content."""
    if name != "chat":
        return answer
    return [
        r | {"message": {"role": "assistant", "content": r["message"]["content"]}} for r in answer
    ]


# --- what the answers are -------------------------------------------------------------------------


async def answer_of(world: World, name: str, which: int = 0) -> Json:
    """That of the 0.4 skill to one of its calls."""
    call = [call for call in CALLS["0.4"] if call[0] == name][which]
    return (await tour(world.kernel, "0.4", [call], CALLER))[0]


async def test_chats(world: World) -> None:
    plain, short = await answer_of(world, "chat")
    assert plain["usage"]["completion"] == 8
    assert plain["finish_reason"] == "length"
    assert plain["message"]["content"]
    assert short["usage"]["completion"] == 2
    sampled, top = await answer_of(world, "chat", 1)
    assert {len(token["top"]) for token in sampled["logprobs"]} == {0}
    assert {len(token["top"]) for token in top["logprobs"]} == {2}


async def test_completions(world: World) -> None:
    plain, top, luminous = await answer_of(world, "complete")
    assert (plain["text"], plain["usage"]["completion"]) == (top["text"], 6)
    assert {len(token["top"]) for token in top["logprobs"]} == {2}
    assert luminous["text"] == " world"
    (special,) = await answer_of(world, "complete", 1)
    assert special["text"] == " world<|end|>"
    assert [token["sampled"]["logprob"] for token in special["logprobs"]] == [-0.5, None]
    world.aleph_alpha.received.clear()
    await answer_of(world, "complete", 2)
    assert [body["echo"] for _, body, _ in world.aleph_alpha.received] == [True]


async def test_streams_say_what_the_whole_answer_says(world: World) -> None:
    chat_events = await answer_of(world, "chat_stream")
    whole = (await answer_of(world, "chat"))[0]
    assert chat_events[0] == ["message_begin", {"role": "assistant"}]
    text = "".join(data["content"] for name, data in chat_events if name == "message_append")
    assert text == whole["message"]["content"]
    assert chat_events[-2:] == [
        ["message_end", {"finish_reason": whole["finish_reason"]}],
        ["usage", {"usage": whole["usage"]}],
    ]
    completion_events = await answer_of(world, "completion_stream")
    whole = (await answer_of(world, "complete"))[0]
    text = "".join(data["text"] for name, data in completion_events if name == "append")
    assert text == whole["text"]
    assert completion_events[-2:] == [
        ["end", {"finish_reason": whole["finish_reason"]}],
        ["usage", {"usage": whole["usage"]}],
    ]


async def test_streams_that_are_left_after_an_event(world: World) -> None:
    assert await answer_of(world, "chat_stream_begun") == [["message_begin", {"role": "assistant"}]]
    ((name, data),) = await answer_of(world, "completion_stream_begun")
    assert (name, bool(data["text"])) == ("append", True)


async def test_explanations(world: World) -> None:
    answers = await tour(world.kernel, "0.3", EXPLANATIONS, CALLER)
    assert answers == [[[{"start": 0, "length": len(FOX_TEXT), "score": 0.75}]]] * 4
    asked = [body for path, body, _ in world.aleph_alpha.received if path == "/explain"]
    assert [body.get("prompt_granularity") for body in asked] == [
        None,
        {"type": "word"},
        {"type": "sentence"},
        {"type": "paragraph"},
    ]


async def test_chunks_are_slices_of_the_text(world: World) -> None:
    texts = await answer_of(world, "chunk")
    long, short, *without = await answer_of(world, "chunk_with_offsets")
    assert [[chunk["text"] for chunk in chunks] for chunks in (long, short)] == texts
    assert len(long) >= 3
    assert short == [{"text": "short", "byte_offset": 0, "character_offset": 0}]
    for chunk in long:
        piece, at = chunk["text"], chunk["character_offset"]
        assert ODD_TEXT[at : at + len(piece)] == piece
        assert ODD_TEXT.encode()[chunk["byte_offset"] :].startswith(piece.encode())
    assert without == [[c | {"character_offset": None} for c in chunks] for chunks in (long, short)]


async def test_languages(world: World) -> None:
    assert await answer_of(world, "select_language") == ["eng", "deu", None]


async def test_searches(world: World) -> None:
    everything, near, one, *filtered, none = await answer_of(world, "search")
    fox = everything[0]
    assert fox["document_path"] == FOX
    assert (fox["content"], fox["score"]) == (FOX_TEXT, pytest.approx(1.0, abs=1e-3))
    assert fox["start"] == {"item": 0, "position": 0}
    assert fox["end"] == {"item": 0, "position": len(FOX_TEXT) - 1}
    assert everything[1]["document_path"] == CARD
    assert everything[1]["start"] == {"item": 1, "position": 0}
    assert [[fox]] * (2 + len(filtered)) == same([near, one, *filtered])
    assert none == []


async def test_documents(world: World) -> None:
    assert await answer_of(world, "documents") == [
        {
            "path": FOX,
            "contents": [{"modality": "text", "text": FOX_TEXT}],
            "metadata": FOX_METADATA,
        },
        {
            "path": CARD,
            "contents": [{"modality": "image"}, {"modality": "text", "text": "An oak."}],
            "metadata": None,
        },
    ]
    assert await answer_of(world, "document_metadata") == [None, FOX_METADATA]


async def test_tools(world: World) -> None:
    added, echoed, structured, failed, sabotaged, missing = await answer_of(world, "invoke_tool")
    assert added == [{"type": "text", "text": "42"}]
    assert json.loads(echoed[0]["text"]) == {"x": {"deep": ["å", None, 1.5]}}
    assert json.loads(structured[0]["text"]) == {"degrees": 21.5, "sky": "blå"}
    assert failed == "No cheese.\n\nTry the shop."
    assert sabotaged == "Out of cheese."
    assert "no-such-tool" in missing
    tools = await answer_of(world, "list_tools")
    names = "add crowd echo fail hang meet saboteur structured subtract"
    assert [tool["name"] for tool in tools] == names.split()
    assert {tool["input_schema"]["type"] for tool in tools} == {"object"}


async def test_the_token_of_the_caller_goes_to_aleph_alpha_only(world: World) -> None:
    calls: list[Call] = [("complete", [completion("luminous")]), ("invoke_tool", TOOLS)]
    await tour(world.kernel, "0.4", calls, CALLER)
    ((_, _, token),) = world.aleph_alpha.received
    assert token == CALLER["Authorization"]
    assert CALLER["Authorization"] not in str(world.tools.received)
    assert "token-of-the-caller" not in world.kernel.log()
