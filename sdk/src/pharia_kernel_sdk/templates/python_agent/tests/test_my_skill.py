import pytest
from my_skill import my_skill

from pharia_kernel_sdk import Message, Tool, ToolCall, ToolError

TOOLS = [Tool("add", "Adds two numbers."), Tool("subtract", "Subtracts one from the other.")]


@pytest.fixture
def model(csi):
    csi.on("list_tools").answer(TOOLS)
    call = ToolCall("call-1", "add", '{"a": 1, "b": 2}')
    csi.on("chat_stream").answer(Message.assistant("", [call]))
    return csi.on("chat_stream", contains="call-1")


def test_the_model_learns_what_the_tool_returns(csi, model, run_skill):
    csi.on("invoke_tool", name="add", arguments={"a": 1, "b": 2}).answer("3")
    model.answer(lambda request: f"It is {request.messages[-1].content}.")

    assert run_skill(my_skill, {"task": "What is 1 + 2?"}).text == "It is 3."


def test_the_model_learns_what_went_wrong(csi, model, run_skill):
    csi.on("invoke_tool").answer(ToolError("Out of cheese."))
    model.answer(lambda request: request.messages[-1].content)

    assert "Out of cheese." in run_skill(my_skill, {"task": "What is 1 + 2?"}).text
