from __future__ import annotations

import pytest
from msgspec import Raw

from pharia_kernel.csi.types import Argument, TextOutput
from pharia_kernel.drivers.tools.native import NATIVE_TOOLS
from pharia_kernel.drivers.tools.toolbox import Toolbox
from pharia_kernel.errors import ToolFailed

ONE_AND_TWO = [Argument("a", Raw(b"1")), Argument("b", Raw(b"2"))]


@pytest.fixture
def toolbox() -> Toolbox:
    toolbox = Toolbox()
    toolbox.set_native("mine", ["subtract", "add"])
    toolbox.set_native("empty", [])
    return toolbox


def names(toolbox: Toolbox, namespace: str) -> list[str] | None:
    tools = toolbox.tools(namespace)
    return None if tools is None else [tool.name for tool in tools]


def test_tools_are_sorted_by_name(toolbox: Toolbox) -> None:
    assert names(toolbox, "mine") == ["add", "subtract"]


def test_description_is_that_of_the_tool(toolbox: Toolbox) -> None:
    assert toolbox.tools("mine") == [
        NATIVE_TOOLS["add"].description,
        NATIVE_TOOLS["subtract"].description,
    ]


def test_namespace_without_tools_is_known(toolbox: Toolbox) -> None:
    assert names(toolbox, "empty") == []


def test_unknown_namespace(toolbox: Toolbox) -> None:
    assert names(toolbox, "theirs") is None


def test_tool_that_is_configured_twice_is_listed_once(toolbox: Toolbox) -> None:
    toolbox.set_native("mine", ["add", "add"])
    assert names(toolbox, "mine") == ["add"]


async def test_new_configuration_replaces_the_old(toolbox: Toolbox) -> None:
    toolbox.set_native("mine", ["saboteur"])
    assert names(toolbox, "mine") == ["saboteur"]
    with pytest.raises(ToolFailed, match="add not found"):
        await toolbox.invoke("mine", "add", ONE_AND_TWO)


async def test_removed_namespace_is_unknown(toolbox: Toolbox) -> None:
    toolbox.remove("mine")
    toolbox.remove("mine")
    assert names(toolbox, "mine") is None
    with pytest.raises(ToolFailed):
        await toolbox.invoke("mine", "add", ONE_AND_TWO)


def test_configuring_what_is_no_tool_changes_nothing(toolbox: Toolbox) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        toolbox.set_native("mine", ["saboteur", "nonsense"])
    assert names(toolbox, "mine") == ["add", "subtract"]


async def test_invoke(toolbox: Toolbox) -> None:
    assert await toolbox.invoke("mine", "subtract", ONE_AND_TWO) == [TextOutput("-1")]


@pytest.mark.parametrize(
    ("namespace", "tool"),
    [("mine", "nonsense"), ("mine", "saboteur"), ("empty", "add"), ("theirs", "add"), ("", "")],
)
async def test_tool_that_is_not_in_the_namespace(
    toolbox: Toolbox, namespace: str, tool: str
) -> None:
    with pytest.raises(ToolFailed) as caught:
        await toolbox.invoke(namespace, tool, ONE_AND_TWO)
    assert caught.value.detail == f"Tool {tool} not found on any server."
