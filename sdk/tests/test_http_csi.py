"""The same calls from plain Python, through the kernel's HTTP routes."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sdk_components import SKILLS
from tests.support.kernel import KernelProcess
from tests.support.llm import Llm

from pharia_kernel_sdk import (
    ChatParams,
    Csi,
    Language,
    Message,
    MessageWriter,
    ToolError,
    message_stream,
)
from pharia_kernel_sdk.http_csi import HttpCsi
from pharia_kernel_sdk.testing import DevCsi, MessageRecorder
from pharia_kernel_sdk.transport import CsiError, HttpTransport

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]


@pytest.fixture
def csi(kernel: KernelProcess) -> Iterator[HttpCsi]:
    with HttpCsi("dev", HttpTransport(kernel.url)) as csi:
        yield csi


@pytest.fixture(scope="module")
def tour() -> ModuleType:
    """The skill that makes every call, as plain Python."""
    spec = importlib.util.spec_from_file_location("tour", SKILLS / "tour.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["tour"] = module
    spec.loader.exec_module(module)
    return module


async def away(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread: the calls block, and the kernel's client lives in this loop."""
    return await asyncio.to_thread(function, *arguments)


@pytest.mark.parametrize("name", ["chunk", "select_language", "tools"])
async def test_answers_are_those_of_the_component(
    kernel: KernelProcess, csi: HttpCsi, llm: Llm, tour: ModuleType, name: str
) -> None:
    input_ = {"call": name, "model": llm.model}
    inside = (await kernel.run("tour", input_)).json()
    assert await away(tour.tour, csi, input_) == inside


@pytest.mark.parametrize(
    "name",
    ["complete", "completion_stream", "chat", "chat_stream", "structured", "tool_calling"],
)
async def test_models_answer_in_the_same_shape(
    kernel: KernelProcess, csi: HttpCsi, llm: Llm, tour: ModuleType, name: str
) -> None:
    input_ = {"call": name, "model": llm.model}
    inside = (await kernel.run("tour", input_)).json()
    assert shape(await away(tour.tour, csi, input_)) == shape(inside)


def shape(value: Any) -> Any:
    """Keys and types. Of a list the first item: the model may stop earlier or later."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__.replace("FinishReason", "str").replace("Role", "str")


@pytest.mark.parametrize("name", ["search", "explain"])
async def test_errors_have_status_code_and_reason(
    csi: HttpCsi, llm: Llm, tour: ModuleType, name: str
) -> None:
    with pytest.raises(CsiError, match=name) as caught:
        await away(tour.tour, csi, {"call": name, "model": llm.model})
    assert caught.value.status is not None and caught.value.status >= 400
    assert caught.value.code


async def test_a_stream_that_fails_raises(csi: HttpCsi) -> None:
    def ask() -> None:
        csi.chat_stream("tiny", [Message.user("hi")], ChatParams(max_tokens=-1))

    with pytest.raises(CsiError, match="chat_stream"):
        await away(ask)


async def test_failed_tools_raise(csi: HttpCsi) -> None:
    with pytest.raises(ToolError, match="Out of cheese"):
        await away(csi.invoke_tool, "saboteur")


async def test_wrong_types_are_found_before_they_are_sent(csi: HttpCsi) -> None:
    with pytest.raises(TypeError, match=r"SelectLanguageRequest \$\.languages\[0\]"):
        await away(csi.select_language, "text", ["eng"])


async def test_tools_need_a_namespace(kernel: KernelProcess) -> None:
    csi = HttpCsi(transport=HttpTransport(kernel.url))
    with csi, pytest.raises(ValueError, match="belong to a namespace"):
        await away(csi.list_tools)


async def test_a_stream_skill_can_be_tried_with_a_recorder(csi: HttpCsi, llm: Llm) -> None:
    @message_stream
    def talk(csi: Csi, writer: MessageWriter[None], input: str) -> None:
        with csi.chat_stream(input, [Message.user("hi")], ChatParams(max_tokens=3)) as response:
            writer.forward_response(response)

    recorder = MessageRecorder[None]()
    await away(talk, csi, recorder, llm.model)
    (message,) = recorder.messages()
    assert message.role == "assistant" and message.content


async def test_the_environment_names_the_kernel(
    kernel: KernelProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHARIA_KERNEL_ADDRESS", kernel.url + "/")
    monkeypatch.delenv("PHARIA_AI_TOKEN", raising=False)
    csi = DevCsi()
    languages = [Language.English, Language.German]
    assert await away(csi.select_language, "This is English.", languages) is Language.English
    csi.close()


async def test_a_file_of_the_current_folder_names_the_kernel(
    kernel: KernelProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PHARIA_KERNEL_ADDRESS", raising=False)
    (tmp_path / ".env").write_text(f"PHARIA_KERNEL_ADDRESS={kernel.url}\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with DevCsi("dev") as csi:
        assert {tool.name for tool in await away(csi.list_tools)} >= {"add", "subtract"}


async def test_without_an_address_it_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PHARIA_KERNEL_ADDRESS", raising=False)
    with pytest.raises(CsiError, match="Set PHARIA_KERNEL_ADDRESS"):
        HttpCsi()


async def test_no_kernel_is_said_with_its_address() -> None:
    csi = HttpCsi(transport=HttpTransport("http://127.0.0.1:9"))
    with csi, pytest.raises(CsiError, match=r"from the kernel at http://127\.0\.0\.1:9 "):
        await away(csi.select_language, "text", [Language.English])
