"""Every call of the CSI, by name."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any, TypedDict

from pharia_kernel_sdk import (
    After,
    ChatParams,
    ChunkParams,
    CompletionParams,
    CompletionRequest,
    Csi,
    EqualTo,
    IndexPath,
    InvokeRequest,
    IsNull,
    JsonSchema,
    Language,
    Message,
    MetadataFilter,
    SearchFilter,
    SelectLanguageRequest,
    Tool,
    ToolError,
    TopLogprobs,
    With,
    Without,
    skill,
)


class Input(TypedDict):
    call: str
    model: str


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return list(value) if isinstance(value, bytes) else value


def complete(csi: Csi, model: str) -> Any:
    params = CompletionParams(max_tokens=4, logprobs=TopLogprobs(2), temperature=0.0)
    return csi.complete_concurrent([CompletionRequest(model, p, params) for p in ("a", "b")])


def completion_stream(csi: Csi, model: str) -> Any:
    with csi.completion_stream(model, "once", CompletionParams(max_tokens=4)) as response:
        text = "".join(append.text for append in response.stream())
        return [text, response.finish_reason().value, plain(response.usage())]


def chat(csi: Csi, model: str) -> Any:
    return csi.chat(model, [Message.system("be"), Message.user("hi")], ChatParams(max_tokens=4))


def structured(csi: Csi, model: str) -> Any:
    schema = {"type": "object", "properties": {"a": {"enum": [1]}}, "required": ["a"]}
    params = ChatParams(
        max_tokens=40, temperature=0.0, response_format=JsonSchema("answer", schema, strict=True)
    )
    return csi.chat(model, [Message.user("hi")], params)


def tool_calling(csi: Csi, model: str) -> Any:
    schema = {"type": "object", "properties": {"city": {"enum": ["Ulm"]}}, "required": ["city"]}
    tool = Tool("weather", "Tells the weather.", schema)
    params = ChatParams(max_tokens=200, temperature=0.0, tool_choice="required")
    with csi.chat_stream_step(model, [Message.user("hi")], params, [tool]) as response:
        message = response.consume_message()
        return [response.tool_calls(), message, response.finish_reason().value]


def chat_stream(csi: Csi, model: str) -> Any:
    with csi.chat_stream(model, [Message.user("hi")], ChatParams(max_tokens=4)) as response:
        message = response.consume_message()
        return [response.role, message, response.finish_reason().value, response.usage()]


def chunk(csi: Csi, model: str) -> Any:
    return csi.chunk("one two. three four.", ChunkParams(model, 10, 2))


def select_language(csi: Csi, model: str) -> Any:
    texts = ["Das ist ein deutscher Satz.", "This is an English sentence."]
    languages = [Language.English, Language.German]
    return csi.select_language_concurrent([SelectLanguageRequest(t, languages) for t in texts])


def tools(csi: Csi, model: str) -> Any:
    requests = [InvokeRequest("add", {"a": 1, "b": 2}), InvokeRequest("saboteur", {})]
    results = csi.invoke_tool_concurrent(requests)
    shown = [r.message if isinstance(r, ToolError) else r.text() for r in results]
    return [csi.invoke_tool("subtract", a=3, b=1).text(), shown, [t.name for t in csi.list_tools()]]


def explain(csi: Csi, model: str) -> Any:
    return csi.explain("a prompt", "a target", model)


def search(csi: Csi, model: str) -> Any:
    filters: list[SearchFilter] = [
        With([MetadataFilter("a", EqualTo(True)), MetadataFilter("b", EqualTo(1))]),
        Without(
            [
                MetadataFilter("c", After(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))),
                MetadataFilter("d", IsNull()),
            ]
        ),
    ]
    return csi.search(IndexPath("n", "c", "i"), "query", 3, 0.5, filters)


def wrong_type(csi: Csi, model: str) -> Any:
    return csi.chat(model, "hello")  # type: ignore[arg-type]


@skill
def tour(csi: Csi, input: Input) -> Any:
    return plain(globals()[input["call"]](csi, input["model"]))
