"""The fixtures, as a test run of an author sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sdk_components import SKILLS
from tests.support.kernel import KernelProcess
from tests.support.llm import Llm

from pharia_kernel_sdk.csi.inference import Message
from pharia_kernel_sdk.csi.tools import InvokeRequest
from pharia_kernel_sdk.pytest_plugin import ScriptedCsi
from pharia_kernel_sdk.pytest_plugin.answers import AnswerError

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.timeout(300, func_only=True)

ALL_CALLS = """
    import pytest
    from story import story
    from tour import tour
    from pharia_kernel_sdk import Message, TextScore, Tool, ToolCall, ToolError
    from pharia_kernel_sdk.pytest_plugin import InvalidInputError, SkillFailedError

    @pytest.fixture
    def call(run_skill):
        return lambda name: run_skill(tour, {"call": name, "model": "m"})

    def test_chat(csi, call):
        csi.on("chat", model="m").answer("hello", '{"a": 1}')
        assert call("chat")["message"]["content"] == "hello"
        call("structured")
        assert csi.calls[1].request.params.response_format.schema["required"] == ["a"]
        assert csi.calls[1].request.params.response_format.strict is True

    def test_completion(csi, call):
        csi.on("complete").always(lambda request: request.prompt.upper())
        csi.on("completion_stream").answer("upon a time")
        assert [answer["text"] for answer in call("complete")] == ["A", "B"]
        assert csi.calls[0].request.params.logprobs.top == 2
        assert call("completion_stream")[:2] == ["upon a time", "stop"]

    def test_chat_streams(csi, call):
        csi.on("chat_stream").answer(["upon", " a", " time"])
        asked = Message.assistant("", [ToolCall("1", "weather", '{"city": "Ulm"}')])
        csi.on("chat_stream", where=lambda request: request.params.tools).answer(asked)
        role, message, reason, usage = call("chat_stream")
        assert (role, message["content"], reason) == ("assistant", "upon a time", "stop")
        calls, message, reason = call("tool_calling")
        assert calls == [{"id": "1", "name": "weather", "arguments": '{"city": "Ulm"}'}]
        assert reason == "tool_calls"

    def test_texts(csi, call):
        csi.on("chunk").answer(["one two.", "three four."])
        csi.on("select_language").answer("deu", None)
        csi.on("explain").answer([TextScore(2, 3, 0.5)])
        assert [chunk["character_offset"] for chunk in call("chunk")] == [0, 9]
        assert call("select_language") == ["deu", None]
        assert call("explain") == [{"start": 2, "length": 3, "score": 0.5}]

    def test_search(csi, call):
        csi.on("search", query="query", max_results=3).answer(["found"])
        (result,) = call("search")
        assert result["content"] == "found"
        with_, without = csi.calls[0].request.filters
        assert [type(f.condition.value) for f in with_.value] == [bool, int]
        assert without.value[0].condition.value.year == 2020

    def test_tools(csi, call):
        csi.on("invoke_tool", name="add", arguments={"a": 1, "b": 2}).answer(3)
        csi.on("invoke_tool", name="saboteur").answer(ToolError("Out of cheese."))
        csi.on("invoke_tool", name="subtract").answer("2")
        csi.on("list_tools").answer([Tool("add", "Adds.", {"type": "object"})])
        assert call("tools") == ["2", ["3", "Out of cheese."], ["add"]]

    def test_streams(csi, run_skill):
        streamed = run_skill(story, {"mode": "fixed"})
        assert streamed.text == "Once upon a time"
        assert streamed.messages[0].reasoning_content == "hm"
        assert streamed.messages[0].payload == {"finish_reason": "stop"}
        csi.on("chat_stream").answer("a b c")
        assert run_skill(story, {"mode": "chat", "model": "m"}).text == "a b c"

    def test_errors(run_skill):
        with pytest.raises(InvalidInputError, match=r"\\$\\.mode: expected one of"):
            run_skill(story, {"mode": "sad"})
        with pytest.raises(SkillFailedError, match="the plot is lost\\n  story.py:"):
            run_skill(story, {"mode": "broken"})
        with pytest.raises(SkillFailedError, match="no message has begun"):
            run_skill(story, {"mode": "disorder"})
"""


@pytest.fixture
def author(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder of tests that can import the test skills."""
    pytester.makeini(f"[pytest]\npythonpath = {SKILLS}\nasyncio_mode = strict\n")
    return pytester


@pytest.mark.parametrize("options", [[], ["--skill-component"]], ids=["python", "component"])
def test_every_call_can_be_scripted(author: pytest.Pytester, options: list[str]) -> None:
    author.makepyfile(ALL_CALLS)
    author.runpytest_inprocess(*options).assert_outcomes(passed=8)


@pytest.mark.parametrize("options", [[], ["--skill-component"]], ids=["python", "component"])
def test_a_call_without_an_answer_fails(author: pytest.Pytester, options: list[str]) -> None:
    author.makepyfile(
        """
        from tour import tour

        def test_it(csi, run_skill):
            csi.on("chat", contains="bye").answer("x")
            try:
                run_skill(tour, {"call": "chat", "model": "m"})
            except Exception:
                pass  # a skill, or a test, can't hide it
        """
    )
    result = author.runpytest_inprocess(*options)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "The skill made a call that has no answer: chat",
            '*"content": "hi"*',
            "The script, in order:",
            "  1. on('chat', contains='bye'): 0 of 1 answers used",
            'Script an answer with csi.on("chat").answer(...), or record it from a kernel:',
            "*test_it' --csi-record http://*",
        ]
    )


def test_answers_that_were_not_used_fail(author: pytest.Pytester) -> None:
    author.makepyfile(
        """
        from greet import greet

        def test_it(csi, run_skill):
            csi.on("chat").answer("x", "y")
            assert run_skill(greet, {"name": "Homer"}) == "Hello Homer"
        """
    )
    result = author.runpytest_inprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["  on('chat'): 0 of 2 answers used", "*made: none"])


RECORDED = """
    import pytest
    from tour import tour

    @pytest.mark.parametrize("call", ["chat", "chat_stream", "tools", "chunk"])
    def test_it(run_skill, call):
        first = run_skill(tour, {"call": call, "model": "MODEL"})
        print("ANSWER", first, run_skill(tour, {"call": call, "model": "MODEL"}))
"""


def answers(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith(("ANSWER", ".ANSWER"))]


def test_a_recording_is_replayed_without_a_kernel(
    author: pytest.Pytester,
    kernel: KernelProcess,
    llm: Llm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    author.makepyfile(RECORDED.replace("MODEL", llm.model))
    monkeypatch.setenv("PHARIA_AI_TOKEN", "secret-token")
    recorded = author.runpytest_inprocess("-s", "--csi-record", kernel.url)
    recorded.assert_outcomes(passed=4)
    files = sorted(author.path.glob("cassettes/*/*.json"))
    assert [file.name for file in files] == [
        f"test_it-{name}.json" for name in ("chat", "chat_stream", "chunk", "tools")
    ]
    texts = [file.read_text() for file in files]
    assert not any(word in text for text in texts for word in ("secret-token", "127.0.0.1"))

    monkeypatch.delenv("PHARIA_AI_TOKEN")
    for options in ([], ["--skill-component"]):
        replayed = author.runpytest_inprocess("-s", *options)
        replayed.assert_outcomes(passed=4)
        assert answers(replayed) == answers(recorded)
    assert [file.read_text() for file in files] == texts


def test_a_call_that_was_not_recorded_fails(author: pytest.Pytester, kernel: KernelProcess) -> None:
    author.makepyfile(RECORDED.replace("MODEL", "tiny"))
    author.runpytest_inprocess("-k", "tools", "--csi-record", kernel.url).assert_outcomes(
        passed=1, deselected=3
    )
    (file,) = author.path.glob("cassettes/*/*.json")
    recording = json.loads(file.read_text())
    functions = [entry["function"] for entry in recording["calls"]]
    assert functions == sorted(functions)

    recording["calls"] = [e for e in recording["calls"] if e["function"] != "list_tools"]
    file.write_text(json.dumps(recording))
    result = author.runpytest_inprocess("-k", "tools")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(
        [
            "The skill made a call that is not in the recording: list_tools",
            f"The recording {file.name.replace('[', '[[]')} has: invoke_tool (4).",
            "Record it again from a kernel:",
        ]
    )


def test_a_file_that_is_no_recording_is_named(author: pytest.Pytester) -> None:
    author.makepyfile(RECORDED)
    (test,) = author.path.glob("test_*.py")
    file = Path(author.path, "cassettes", test.stem, "test_it-chat.json")
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    result = author.runpytest_inprocess("-k", "test_it and chat and not stream")
    result.assert_outcomes(failed=1, deselected=3)
    result.stdout.fnmatch_lines(["*test_it-chat.json is no recording*Record it again."])


def test_answers_that_do_not_fit_are_refused() -> None:
    csi = ScriptedCsi()
    csi.on("chat").answer(3)
    with pytest.raises(AnswerError, match=r"answer 3 does not fit `chat`: a text, a Message"):
        csi.chat("m", [Message.user("hi")])


def test_only_calls_of_the_kernel_can_be_scripted() -> None:
    with pytest.raises(ValueError, match=r"no call `chatt` to script\. There are: chat, "):
        ScriptedCsi().on("chatt")  # type: ignore[arg-type]


def test_an_exception_is_raised_where_the_kernel_would_fail() -> None:
    csi = ScriptedCsi()
    csi.on("invoke_tool").answer(TimeoutError("too slow"))
    with pytest.raises(TimeoutError, match="too slow"):
        csi.invoke_tool_concurrent([InvokeRequest("add")])
